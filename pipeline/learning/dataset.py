"""Stored videos as samples for training and as views for testing."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from pipeline.learning import augment, sampling, volumes
from pipeline.learning.epochs import PADDING
from pipeline.stream_params import Stream, channels_of
from pipeline.video import store
from pipeline.videos import Video


class Clips(Dataset):
    """What a stream's dataset reads: a folder of stored videos and their rows.

    Parameters
    ----------
    folder : Path
        Stored frames, flow, warped flow or bidirectional flow.
    videos : list of Video
        The usable rows of one or more subsets.
    stream : Stream
    mean : tuple of float
        The network's mean of R, G and B in 0-255, subtracted from frames.
    """

    def __init__(
        self, folder: Path, videos: list[Video], stream: Stream, mean: tuple[float, ...]
    ) -> None:
        self.folder, self.videos, self.stream = folder, videos, stream
        self.is_flow = stream.source != "frames"
        seen = stream.input
        self.span = sampling.span(seen.kind, seen.length, seen.stride)
        fixed = subtracted(stream, mean)
        self.offsets = None if fixed is None else np.array(fixed, np.float32)

    def __len__(self) -> int:
        """Count the clips."""
        return len(self.videos)

    def open(self, number: int) -> store.StoredVideo:
        """Open one clip's stored pictures."""
        kinds = {"frames": store.FRAMES, "bidirectional_flow": store.BIDIRECTIONAL}
        names = kinds.get(self.stream.source, store.FLOW)
        video_id = self.videos[number].video_id
        return store.StoredVideo(self.folder, video_id, names)

    def snippet(self, video: store.StoredVideo, start: int) -> tuple[np.ndarray, np.ndarray]:
        """Read one snippet: its codes, and the offsets (C,) float32 to subtract from them.

        Codes are (H, W, C) uint8, or int16 of differences. The one place where modalities part.
        """
        if self.stream.input.kind == "difference":
            wanted = sampling.snippet_indices(start, self.span, 1, len(video))
            volume = volumes.difference_stack(video.read_many(wanted))
            return volume, self.offsets
        if not self.is_flow:
            return video.read(start), self.offsets
        fields = self.fields(video, start)
        offsets = volumes.field_means(fields) if self.offsets is None else self.offsets
        if self.stream.input.kind == "trajectory":
            # Rounded to codes again, which is off by half a code, bound/255 px, at most.
            bound = video.made_by["settings"]["bound"]
            volume = volumes.trajectory_stack(store.dequantise(fields, bound))
            return store.quantise(volume, bound), offsets
        return volumes.flow_stack(fields), offsets

    def fields(self, video: store.StoredVideo, start: int) -> np.ndarray:
        """Read one snippet's fields in the order of its channels: codes (L, 2, H, W) uint8."""
        seen, count = self.stream.input, len(video)
        if seen.kind != "bidirectional":
            wanted = sampling.snippet_indices(start, seen.length, seen.stride, count)
            return video.read_many(wanted, names=store.FLOW)
        tau = sampling.middle_frame(start, self.span, count)
        forward, backward = sampling.bidirectional_indices(tau, seen.length, seen.stride, count)
        both = ((forward, store.FLOW), (backward, store.BACKWARD))
        return np.concatenate([video.read_many(wanted, names=names) for wanted, names in both])


class TrainingClips(Clips):
    """Random snippets and crops; every draw is seeded by (seed, epoch, position in the epoch)."""

    def __init__(self, *args: object, seed: int) -> None:
        super().__init__(*args)
        self.seed = seed

    def __getitem__(self, drawn: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray, int]:
        """Draw a sample for (epoch, position in it, clip).

        Returns
        -------
        snippets : ndarray of shape (K, crop, crop, C), uint8 or int16
        offsets : ndarray of shape (K, C), float32
        label : int
        """
        epoch, position, number = drawn
        padding = position == PADDING
        rng = np.random.default_rng((self.seed, epoch, 0 if padding else position))
        training, seen = self.stream.training, self.stream.input
        snippets, offsets = [], []
        with self.open(number) as video:
            starts = sampling.training_starts(len(video), self.span, training.segments, rng)
            flipped = training.flip and rng.random() < 0.5
            jitter = augment.rgb_jitter(training.rgb_jitter, rng) if training.rgb_jitter else 0
            for start in starts:
                volume, offset = self.snippet(video, int(start))
                volume = augment.random_crop(
                    volume, seen.crop, training.scale_jitter, training.crop_places, rng
                )
                if flipped:
                    volume = volumes.flip(volume, flow=self.is_flow)
                    offset = volumes.flip_means(offset) if self.is_flow else offset
                snippets.append(volume)
                # To subtract less is to add to the colour, without a loss at 0 and 255.
                offsets.append(offset - jitter)
        label = PADDING if padding else self.videos[number].label
        return np.stack(snippets), np.stack(offsets), label


class TestingClips(Clips):
    """Equally spaced snippets and fixed crops; nothing is drawn."""

    def __init__(self, *args: object, snippets: int, crops: int, crop_ratio: float) -> None:
        super().__init__(*args)
        self.snippets, self.crops, self.crop_ratio = snippets, crops, crop_ratio

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Cut all views of a clip: V = snippets x crops.

        Returns
        -------
        views : ndarray of shape (V, crop, crop, C), uint8 or int16
            Crops are ``crop_ratio`` of the short side, resized to ``input.crop``.
        offsets : ndarray of shape (V, C), float32
        label : int
        """
        crop, views, offsets = self.stream.input.crop, [], []
        with self.open(number) as video:
            starts = sampling.testing_starts(len(video), self.span, self.snippets)
            for start in starts:
                volume, offset = self.snippet(video, int(start))
                volume = augment.scaled_frame(volume, crop, self.crop_ratio)
                height, width = volume.shape[:2]
                for place in augment.crop_places(height, width, crop, self.crops):
                    top, left, flipped = place
                    box = volume[top : top + crop, left : left + crop]
                    views.append(volumes.flip(box, flow=self.is_flow) if flipped else box)
                    mirrors = flipped and self.is_flow
                    offsets.append(volumes.flip_means(offset) if mirrors else offset)
        return np.stack(views), np.stack(offsets), self.videos[number].label


def deviations(stream: Stream, std: tuple[float, ...]) -> tuple[float, ...]:
    """Give what each of a stream's channels is divided by, from the network's R, G and B."""
    if stream.source == "frames":
        return std * stream.input.length
    return (sum(std) / len(std),) * channels_of(stream)


def subtracted(stream: Stream, mean: tuple[float, ...]) -> tuple[float, ...] | None:
    """Give what each channel of a stream has subtracted, in codes; None for each field's mean."""
    if stream.input.kind == "difference":
        return (0.0,) * channels_of(stream)
    if stream.source == "frames":
        return mean
    return None if stream.input.subtract_mean else (127.5,) * channels_of(stream)


def class_names(videos: Sequence[Video]) -> list[str]:
    """List the classes of a dataset in the order of their labels, whether usable or not."""
    return [name for _, name in sorted({(video.label, video.class_name) for video in videos})]


def with_heads(
    videos: Sequence[Video], datasets: Sequence[str]
) -> tuple[list[Video], dict[str, list[str]]]:
    """Keep the videos of some datasets, with labels that count over all their classes, in order.

    Returns
    -------
    videos : list of Video
    heads : dict
        The classes of each dataset: those of its softmax head.

    Raises
    ------
    ValueError
        If there is no video of a dataset, or a label is no number of a class; names it.
    """
    kept, heads, first = [], {}, 0
    for name in datasets:
        own = [video for video in videos if video.dataset == name]
        if not own:
            raise ValueError(f"got no video of the dataset {name}, expected some")
        heads[name] = class_names(own)
        for video in own:
            if video.label >= len(heads[name]):
                raise ValueError(
                    f"got label {video.label} of {video.video_id}, expected one below the number "
                    f"of classes, {len(heads[name])}"
                )
        kept += [replace(video, label=first + video.label) for video in own]
        first += len(heads[name])
    return kept, heads
