"""Which clips an epoch shows, and in which order."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


class EpochSampler(Sampler):
    """The draws of one epoch, the same for the same seed and epoch.

    Parameters
    ----------
    labels : sequence of int
        Each clip's class.
    size : int
        Draws of an epoch. With as many as there are clips, ``shuffle`` shows each once an epoch;
        with more or fewer, its passes over all clips run on from epoch to epoch.
    by : {"shuffle", "class_uniform"}
        ``class_uniform`` draws a class, then one of its clips (Two-Stream, section 5: "uniformly
        across the classes"), with replacement.
    seed, epoch : int
    """

    def __init__(self, labels: Sequence[int], *, size: int, by: str, seed: int, epoch: int) -> None:
        self.labels, self.size, self.by = np.asarray(labels), size, by
        self.seed, self.epoch = seed, epoch

    def __len__(self) -> int:
        """Count the draws of an epoch."""
        return self.size

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """Yield (epoch, position in it, clip)."""
        clips = self._by_class() if self.by == "class_uniform" else self._shuffled()
        return ((self.epoch, position, int(clip)) for position, clip in enumerate(clips))

    def _by_class(self) -> np.ndarray:
        rng = np.random.default_rng((self.seed, self.epoch))
        members = [np.flatnonzero(self.labels == label) for label in np.unique(self.labels)]
        drawn = rng.integers(len(members), size=self.size)
        return np.array([members[of][rng.integers(len(members[of]))] for of in drawn])

    def _shuffled(self) -> np.ndarray:
        count, first = len(self.labels), self.epoch * self.size
        passes = range(first // count, (first + self.size - 1) // count + 1)
        orders = [np.random.default_rng((self.seed, one)).permutation(count) for one in passes]
        skipped = first - passes[0] * count
        return np.concatenate(orders)[skipped : skipped + self.size]
