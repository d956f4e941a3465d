"""Which clips each iteration of a training shows, and in which order."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from torch.utils.data import Sampler

PADDING = -1  # the position of a draw that only keeps a process busy: it doesn't count


class Draws(Sampler):
    """The batches of a whole training; the same for the same seed, from any iteration on.

    Every batch is shared out over the processes that train together, in order. Where a last batch
    has fewer clips than there are processes, those left without one draw its first clip as padding.

    Parameters
    ----------
    labels : sequence of int
        Each clip's class.
    batch : int
        Clips of an iteration, over all processes.
    size : int
        Draws of an epoch. With as many as there are clips, ``shuffle`` shows each once an epoch;
        with more or fewer, its passes over all clips run on from epoch to epoch.
    epochs : int
    by : {"shuffle", "class_uniform"}
        ``class_uniform`` draws a class, then one of its clips (Two-Stream, section 5: "uniformly
        across the classes"), with replacement.
    seed : int
    rank, world : int
        Which of how many processes this is.
    first : int
        The iteration to start at.
    """

    def __init__(
        self,
        labels: Sequence[int],
        *,
        batch: int,
        size: int,
        epochs: int,
        by: str,
        seed: int,
        rank: int = 0,
        world: int = 1,
        first: int = 0,
    ) -> None:
        self.labels, self.batch, self.size, self.by = np.asarray(labels), batch, size, by
        self.epochs, self.seed, self.rank, self.world = epochs, seed, rank, world
        self.first = first
        self.steps = -(-size // batch)  # iterations of an epoch
        self.own = -(-batch // world)  # draws of a batch that are this process's, at most
        self.epoch = lru_cache(2)(self._by_class if by == "class_uniform" else self._shuffled)

    def __len__(self) -> int:
        """Count the iterations from the first on."""
        return self.epochs * self.steps - self.first

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        """Yield this process's share of each batch: a list of (epoch, position in it, clip)."""
        for iteration in range(self.first, self.epochs * self.steps):
            yield self.share(iteration)

    def share(self, iteration: int) -> list[tuple[int, int, int]]:
        """List this process's draws of one iteration."""
        epoch, step = divmod(iteration, self.steps)
        start, end = step * self.batch, min((step + 1) * self.batch, self.size)
        clips = self.epoch(epoch)
        own = np.array_split(np.arange(start, end), self.world)[self.rank]
        if not len(own):
            return [(epoch, PADDING, int(clips[start]))]
        return [(epoch, int(position), int(clips[position])) for position in own]

    def _by_class(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng((self.seed, epoch))
        members = [np.flatnonzero(self.labels == label) for label in np.unique(self.labels)]
        drawn = rng.integers(len(members), size=self.size)
        return np.array([members[of][rng.integers(len(members[of]))] for of in drawn])

    def _shuffled(self, epoch: int) -> np.ndarray:
        count, first = len(self.labels), epoch * self.size
        passes = range(first // count, (first + self.size - 1) // count + 1)
        orders = [np.random.default_rng((self.seed, one)).permutation(count) for one in passes]
        skipped = first - passes[0] * count
        return np.concatenate(orders)[skipped : skipped + self.size]
