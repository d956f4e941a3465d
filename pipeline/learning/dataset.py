"""Stored videos as samples for training and as frames to cut the views of testing from."""

from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from pipeline.learning import augment, sampling, volumes
from pipeline.learning.epochs import PADDING
from pipeline.learning.modalities import modality_of
from pipeline.stream_params import Stream
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
        self.modality = modality_of(stream, mean)

    def __len__(self) -> int:
        """Count the clips."""
        return len(self.videos)

    def open(self, number: int) -> store.StoredVideo:
        """Open one clip's stored pictures."""
        return store.StoredVideo(self.folder, self.videos[number].video_id, self.modality.names)


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
        training, seen, modality = self.stream.training, self.stream.input, self.modality
        snippets, offsets, box = [], [], None
        with self.open(number) as video:
            starts = sampling.training_starts(len(video), modality.span, training.segments, rng)
            flipped = training.flip and rng.random() < 0.5
            jitter = augment.rgb_jitter(training.rgb_jitter, rng) if training.rgb_jitter else 0
            for start in starts:
                volume, offset = modality.snippet(video, int(start))
                # One for all snippets of a clip, as in the TSN authors' code.
                box = box or augment.random_box(
                    volume.shape[:2], seen.crop, training.scale_jitter, training.crop_places, rng
                )
                volume = box.cut(volume, seen.crop)
                if flipped:
                    volume = volumes.flip(volume, signed=modality.signed)
                    offset = volumes.flip_means(offset) if modality.signed else offset
                snippets.append(volumes.packed(volume))
                # To subtract less is to add to the colour, without a loss at 0 and 255.
                offsets.append(offset - jitter)
        label = PADDING if padding else self.videos[number].label
        return np.stack(snippets), np.stack(offsets), label


class TestingClips(Clips):
    """Equally spaced snippets; nothing is drawn.

    Their views are cut by :func:`pipeline.learning.scoring.score_views`: ten crops of a frame are
    four to six times its size to hand from process to process. Where ``crops`` are of the centre
    alone, that is cut out here.
    """

    def __init__(self, *args: object, snippets: int, crops: int, crop_ratio: float) -> None:
        super().__init__(*args)
        self.snippets, self.crops, self.crop_ratio = snippets, crops, crop_ratio

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Read a clip's snippets.

        Returns
        -------
        snippets : ndarray of shape (S, H, W, C), uint8 or int16
            Scaled so that ``input.crop`` px are ``crop_ratio`` of the short side; H and W are
            ``input.crop`` where they are of the centre alone.
        offsets : ndarray of shape (S, C), float32
        label : int
        """
        crop, modality, snippets, offsets = self.stream.input.crop, self.modality, [], []
        with self.open(number) as video:
            for start in sampling.testing_starts(len(video), modality.span, self.snippets):
                volume, offset = modality.snippet(video, int(start))
                volume = augment.scaled_frame(volume, crop, self.crop_ratio)
                if self.crops <= 2:
                    ((top, left, _),) = augment.crop_places(*volume.shape[:2], crop, 1)
                    volume = volume[top : top + crop, left : left + crop]
                snippets.append(volumes.packed(volume))
                offsets.append(offset)
        return np.stack(snippets), np.stack(offsets), self.videos[number].label
