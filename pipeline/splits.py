"""Share a dataset out to train, validation and test where it doesn't come with a split.

Clips of one group (one recording, one actor) and clips with the same content never stand on both
sides: a network would otherwise be asked what it was taught.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence

# A class with too few groups has train clips first, then test clips, then validation clips.
_PRIORITY = ("train", "test", "val")


def assign_subsets(
    labels: Sequence[int],
    keys: Sequence[Sequence[str]],
    test_fraction: float,
    val_fraction: float,
    seed: int,
) -> list[str]:
    """Share clips out so that each class comes close to the fractions.

    Clips that have a key in common, directly or through others, stay together. Such bunches go, in
    an order drawn from the seed and their keys, each to the subset that lacks most of its classes;
    then, where it can be, a class without a clip in a subset is given one.

    Parameters
    ----------
    labels : sequence of int, length N
        Each clip's class.
    keys : sequence of sequences of str, length N
        What binds each clip to others: its group, its content hash. At least one.
    test_fraction, val_fraction : float
        Shares of each class's clips, in [0, 1); the rest is for training.
    seed : int

    Returns
    -------
    list of str, length N
        ``train``, ``val`` or ``test``; the same for the same clips in any order.
    """
    share = {"train": 1 - test_fraction - val_fraction, "test": test_fraction, "val": val_fraction}
    subsets = [name for name in _PRIORITY if share[name] > 0]
    bunches = _bunches(keys)
    counts = {name: Counter(labels[i] for i in members) for name, members in bunches.items()}
    total = Counter(labels)
    lacks = {name: {label: share[name] * total[label] for label in total} for name in subsets}

    def draw(name: str) -> str:
        return hashlib.sha256(f"{seed}\0{name}".encode()).hexdigest()

    chosen: dict[str, str] = {}
    order = sorted(bunches, key=draw)
    for name in order:
        need = {
            subset: sum(
                n * lacks[subset][label] / total[label] for label, n in counts[name].items()
            )
            for subset in subsets
        }
        best = max(subsets, key=lambda subset: round(need[subset], 9))
        chosen[name] = best
        for label, n in counts[name].items():
            lacks[best][label] -= n
    _complete(chosen, counts, subsets, sorted(order, key=lambda name: len(bunches[name])))
    answer = [""] * len(labels)
    for name, members in bunches.items():
        for i in members:
            answer[i] = chosen[name]
    return answer


def _bunches(keys: Sequence[Sequence[str]]) -> dict[str, list[int]]:
    """Join clips that share a key, directly or through others; name each bunch by its least key."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = key = parent[parent[key]]
        return key

    for own in keys:
        for key in own[1:]:
            a, b = sorted((root(own[0]), root(key)))
            parent[b] = a
    bunches = defaultdict(list)
    for i, own in enumerate(keys):
        bunches[root(own[0])].append(i)
    return dict(bunches)


def _complete(
    chosen: dict[str, str], counts: dict[str, Counter], subsets: list[str], order: list[str]
) -> None:
    """Give each subset a clip of each class where another subset can spare the bunch."""
    held = {subset: Counter() for subset in subsets}  # bunches that hold a class, by subset
    for name, subset in chosen.items():
        held[subset].update(counts[name].keys())
    for rank, subset in enumerate(subsets):
        for label in sorted({label for count in counts.values() for label in count}):
            if held[subset][label]:
                continue
            givers = [
                (not all(held[chosen[name]][other] > 1 for other in counts[name]), i, name)
                for i, name in enumerate(order)  # the smallest first
                if label in counts[name]
            ]
            for bereft, _, name in sorted(givers):
                giver = chosen[name]
                if not bereft or subsets.index(giver) > rank:
                    held[giver].subtract(counts[name].keys())
                    held[subset].update(counts[name].keys())
                    chosen[name] = subset
                    break
