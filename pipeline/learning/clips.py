"""Clips for ST-ResNet: T frames, each with the L flow fields around it, under one box and flip.

Which frames, fields and boxes those are, :mod:`pipeline.learning.clip_sampling` says.

Shapes: T frames, L fields, H, W.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch.utils.data import Dataset

from pipeline.learning import augment, clip_sampling, volumes
from pipeline.learning.epochs import PADDING
from pipeline.learning.modalities import NO_MOTION, offsets_of
from pipeline.st_resnet_params import ClipTesting, Phase
from pipeline.video import store
from pipeline.videos import Video, read_videos


class Seen(NamedTuple):
    """What both networks were trained on alone, and so have to see here.

    ``mean`` and ``std`` are of R, G and B in 0-255, ``flow_std`` of each of the 2L channels of
    codes; ``subtract_mean`` says whether each field's mean vector is subtracted or zero motion.
    """

    length: int
    subtract_mean: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flow_std: tuple[float, ...]


class Clip(NamedTuple):
    """Codes of T frames (T, H, W, 3) and fields (T, H, W, 2L), uint8, and what to subtract.

    The offsets are (T, 3) and (T, 2L), float32.
    """

    rgb: np.ndarray
    flow: np.ndarray
    rgb_offsets: np.ndarray
    flow_offsets: np.ndarray

    def mirrored(self) -> "Clip":
        """Give it left to right: the x of its flow changes its sign, too."""
        return Clip(
            np.stack([volumes.flip(frame, signed=False) for frame in self.rgb]),
            np.stack([volumes.flip(stack, signed=True) for stack in self.flow]),
            self.rgb_offsets,
            np.stack([volumes.flip_means(means) for means in self.flow_offsets]),
        )

    def cropped(self, top: int, left: int, height: int, width: int, size: int) -> "Clip":
        """Cut the same box from all frames and fields, and scale it to a square of ``size`` px."""
        cut = (slice(None), slice(top, top + height), slice(left, left + width))
        return self._replace(rgb=_scaled(self.rgb[cut], size, size),
                             flow=_scaled(self.flow[cut], size, size))  # fmt: skip

    def at_least(self, size: int) -> "Clip":
        """Scale frames and fields up where their short side has less than ``size`` px."""
        height, width = self.rgb.shape[1:3]
        scale = size / min(height, width)
        if scale <= 1:
            return self
        height, width = (max(round(side * scale), size) for side in (height, width))
        return self._replace(rgb=_scaled(self.rgb, height, width),
                             flow=_scaled(self.flow, height, width))  # fmt: skip


def _scaled(pictures: np.ndarray, height: int, width: int) -> np.ndarray:
    scaled = (augment.resize(picture, height, width) for picture in pictures)
    return np.stack([volumes.packed(picture) for picture in scaled])


def paired(listed: list[Video], flow: Path) -> list[Video]:
    """Keep the videos with frames that can be shown with their flow; say how many can't.

    Those that can are ``ok`` in both folders and have one field fewer than frames.

    Parameters
    ----------
    listed : list of Video
        Rows of a folder of frames.
    flow : Path
        A folder of flow, or of warped flow, with its ``videos.csv``.
    """
    fields = {video.video_id: video for video in read_videos(flow / "videos.csv")}
    kept = [
        video for video in listed
        if video.status == "ok" and video.video_id in fields
        and fields[video.video_id].status == "ok"
        and fields[video.video_id].frames == video.frames - 1
    ]  # fmt: skip
    if left := sorted({video.video_id for video in listed} - {video.video_id for video in kept}):
        print(f"{len(left)} of {len(listed)} videos have no frames, or not as many fields in "
              f"{flow}, and are left out: {', '.join(left[:10])}"
              + (", ..." if len(left) > 10 else ""))  # fmt: skip
    return kept


class JointClips(Dataset):
    """What reads stored frames and flow together.

    Parameters
    ----------
    frames, flow : Path
        Folders of stored frames, and of flow or warped flow.
    videos : list of Video
        Rows of a folder of frames: see :func:`paired`.
    seen : Seen
    crop : int
        Height and width that the networks are trained on, px.
    """

    def __init__(
        self, frames: Path, flow: Path, videos: list[Video], seen: Seen, crop: int
    ) -> None:
        self.frames, self.flow, self.videos = frames, flow, videos
        self.seen, self.crop = seen, crop

    def __len__(self) -> int:
        """Count the clips."""
        return len(self.videos)

    def read(self, number: int, chosen: np.ndarray) -> Clip:
        """Read some frames of a video, each with its fields, whole.

        Raises
        ------
        ValueError
            If its frames and its fields differ in size.
        """
        video, length = self.videos[number], self.seen.length
        with store.StoredVideo(self.frames, video.video_id, store.FRAMES) as stored:
            rgb = stored.read_many(chosen)
        around = clip_sampling.fields_around(chosen, length, video.frames)
        with store.StoredVideo(self.flow, video.video_id, store.FLOW) as stored:
            fields = stored.read_many(around.ravel())
        if fields.shape[2:] != rgb.shape[1:3]:
            raise ValueError(
                f"{self.flow / video.video_id}: got fields of {fields.shape[2:]} px, expected "
                f"those of its frames, {rgb.shape[1:3]}"
            )
        stacks = fields.reshape(len(chosen), length, *fields.shape[1:])
        fixed = None if self.seen.subtract_mean else (NO_MOTION,) * (2 * length)
        means = [offsets_of(stack, fixed) for stack in stacks]
        flow = np.stack([volumes.flow_stack(stack) for stack in stacks])
        return Clip(rgb, flow, np.tile(np.float32(self.seen.mean), (len(chosen), 1)),
                    np.stack(means))  # fmt: skip


class TrainingJointClips(JointClips):
    """Random frames under a random box and flip, the same ones over a clip.

    A clip's draws are seeded by (seed, epoch, position in the epoch); its stride is that of its
    batch (see :func:`pipeline.learning.clip_sampling.batch_stride`).
    """

    def __init__(self, *args: object, phase: Phase, seed: int) -> None:
        super().__init__(*args)
        self.phase, self.seed = phase, seed

    def __getitem__(self, drawn: tuple[int, int, int]) -> tuple:
        """Draw a sample for (epoch, position in it, clip): a :class:`Clip`'s parts and a label."""
        epoch, position, number = drawn
        padding, phase, video = position == PADDING, self.phase, self.videos[number]
        position = 0 if padding else position
        stride = clip_sampling.batch_stride(
            *phase.stride, seed=self.seed, epoch=epoch, position=position, batch=phase.batch
        )
        rng = np.random.default_rng((self.seed, epoch, position))
        clip = self.read(number, clip_sampling.training_frames(
            video.frames, phase.frames, stride, self.seen.length, rng
        ))  # fmt: skip
        box = clip_sampling.corner_box(*clip.rgb.shape[1:3], self.crop, rng)
        clip = clip.cropped(*box, self.crop)
        if phase.flip and rng.random() < 0.5:
            clip = clip.mirrored()
        return *clip, PADDING if padding else video.label


class ValidationJointClips(JointClips):
    """As many evenly spaced frames as in training, and the box in their middle."""

    def __init__(self, *args: object, frames_of_clip: int) -> None:
        super().__init__(*args)
        self.count = frames_of_clip

    def __getitem__(self, number: int) -> tuple:
        """Give a :class:`Clip`'s parts, all pictures ``crop`` px high and wide, and a label."""
        video = self.videos[number]
        clip = self.read(number, clip_sampling.testing_frames(
            video.frames, self.count, 0, self.seen.length
        )).at_least(self.crop)  # fmt: skip
        ((top, left, _),) = augment.crop_places(*clip.rgb.shape[1:3], self.crop, 1)
        return *clip.cropped(top, left, self.crop, self.crop, self.crop), video.label


class TestingJointClips(JointClips):
    """Whole frames to test on, none smaller than ``crop``."""

    def __init__(self, *args: object, testing: ClipTesting) -> None:
        super().__init__(*args)
        self.testing = testing

    def __getitem__(self, number: int) -> tuple:
        """Give a :class:`Clip`'s parts and a label."""
        video, testing = self.videos[number], self.testing
        chosen = clip_sampling.testing_frames(
            video.frames, testing.frames, testing.stride, self.seen.length
        )
        return *self.read(number, chosen).at_least(self.crop), video.label
