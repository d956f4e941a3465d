"""Score files: one network's answers on the clips of a dataset.

HDF5: ``video_id`` (N,), ``label`` (N,), ``subset`` (N,), ``logits`` (N, C) and ``probs`` (N, C),
the means over all views of the logits and of the softmax; attribute ``classes``. Whoever wrote
such a file, :func:`read_scores` takes it: strings of either kind, floats of any width, labels that
are whole numbers of any kind, rows in any order, and datasets it doesn't know.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np

from pipeline import SUBSETS
from pipeline.whole_file import remove_left, whole_file


class ScoresError(ValueError):
    """A score file that can't be used: names it, what was found and what was expected."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The answers of one stream.

    Attributes
    ----------
    stream : str
    classes : tuple of str
    video_id, subset : ndarray of shape (N,), str
    label : ndarray of shape (N,), int64
    logits, probs : ndarray of shape (N, C), float32
    """

    stream: str
    classes: tuple[str, ...]
    video_id: np.ndarray
    label: np.ndarray
    subset: np.ndarray
    logits: np.ndarray
    probs: np.ndarray

    def rows(self, chosen: np.ndarray) -> "Scores":
        """Keep some rows, by index or mask, in the order given."""
        names = ("video_id", "label", "subset", "logits", "probs")
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})


def write_scores(path: Path, scores: Scores) -> None:
    """Write a score file; the same scores give the same bytes, and a killed writer no file."""
    text = h5py.string_dtype()
    remove_left(path)
    with whole_file(path) as scratch, h5py.File(scratch, "w", track_order=True) as file:
        file.attrs.create("classes", list(scores.classes), dtype=text)
        file.create_dataset("video_id", data=scores.video_id.astype(object), dtype=text)
        file.create_dataset("label", data=scores.label.astype(np.int64))
        file.create_dataset("subset", data=scores.subset.astype(object), dtype=text)
        file.create_dataset("logits", data=scores.logits.astype(np.float32))
        file.create_dataset("probs", data=scores.probs.astype(np.float32))


def read_scores(path: Path) -> Scores:
    """Read a score file and check it; the stream's name is the file's.

    Raises
    ------
    ScoresError
        If something is missing, of another shape, no text or number, no probability, or twice
        there.
    """
    try:
        with h5py.File(path) as file:
            wanted = ("video_id", "label", "subset", "logits", "probs")
            missing = [name for name in wanted if name not in file]
            if missing or "classes" not in file.attrs:
                raise ScoresError(
                    f"{path}: no {missing[0] if missing else 'attribute classes'}, expected "
                    f"{', '.join(wanted)} and the attribute classes"
                )
            for name in wanted:
                if not isinstance(file[name], h5py.Dataset):
                    raise ScoresError(f"{path}: {name} is a group, expected a dataset")
            data = {name: np.asarray(file[name][()]) for name in wanted}
            data["classes"] = np.asarray(file.attrs["classes"])
    except FileNotFoundError:
        raise ScoresError(f"{path}: no such file, expected a score file") from None
    except (OSError, KeyError) as error:
        raise ScoresError(f"{path}: not a readable HDF5 file ({error})") from None
    scores = Scores(
        stream=path.stem,
        classes=tuple(_text(path, "classes", data).tolist()),
        video_id=_text(path, "video_id", data),
        label=_labels(path, data),
        subset=_text(path, "subset", data),
        logits=_numbers(path, "logits", data).astype(np.float32),
        probs=_numbers(path, "probs", data).astype(np.float32),
    )
    _check(path, scores)
    return scores


def _text(path: Path, name: str, data: dict[str, np.ndarray]) -> np.ndarray:
    values = data[name]
    if values.ndim != 1:
        raise ScoresError(f"{path}: {name} has shape {values.shape}, expected one dimension")
    try:
        texts = [v.decode("utf-8") if isinstance(v, bytes) else str(v) for v in values]
        "".join(texts).encode("utf-8")  # h5py reads other bytes of an attribute as surrogates
    except UnicodeError as error:
        raise ScoresError(f"{path}: {name} is not UTF-8 ({error})") from None
    return np.array(texts, dtype=str)


def _numbers(path: Path, name: str, data: dict[str, np.ndarray]) -> np.ndarray:
    if data[name].dtype.kind not in "fiu":
        raise ScoresError(f"{path}: {name} has the type {data[name].dtype}, expected numbers")
    return data[name]


def _labels(path: Path, data: dict[str, np.ndarray]) -> np.ndarray:
    labels = _numbers(path, "label", data)
    if labels.dtype.kind == "f" and not (np.isfinite(labels) & (labels == np.rint(labels))).all():
        raise ScoresError(f"{path}: label holds {labels.ravel()[:3]}..., expected whole numbers")
    return labels.astype(np.int64)


def _check(path: Path, scores: Scores) -> None:
    count, kinds = len(scores.video_id), len(scores.classes)
    for name in ("label", "subset", "logits", "probs"):
        shape = (count, kinds) if name in ("logits", "probs") else (count,)
        found = getattr(scores, name).shape
        if found != shape:
            raise ScoresError(f"{path}: {name} has shape {found}, expected {shape}")
    ids, times = np.unique(scores.video_id, return_counts=True)
    if (times > 1).any():
        raise ScoresError(f"{path}: video_id {str(ids[times > 1][0])!r} is there more than once")
    if len(set(scores.classes)) != kinds:
        raise ScoresError(f"{path}: classes has one name twice")
    if (off := (scores.label < 0) | (scores.label >= kinds)).any():
        raise ScoresError(
            f"{path}: label holds {scores.label[off][0]} for {scores.video_id[off][0]}, expected "
            f"0 to {kinds - 1}"
        )
    if unknown := set(scores.subset.tolist()) - set(SUBSETS):
        raise ScoresError(
            f"{path}: subset holds {sorted(unknown)[0]!r}, expected one of {', '.join(SUBSETS)}"
        )
    for name in ("logits", "probs"):
        bad = ~np.isfinite(getattr(scores, name)).all(1)
        if bad.any():
            raise ScoresError(f"{path}: {name} of {scores.video_id[bad][0]} are not finite")
    wrong = (scores.probs < 0).any(1) | (np.abs(scores.probs.sum(1) - 1) > 1e-3)
    if wrong.any():
        raise ScoresError(
            f"{path}: probs of {scores.video_id[wrong][0]} sum to {scores.probs[wrong][0].sum():g}"
            ", expected probabilities that sum to 1"
        )


def join(streams: list[Scores]) -> list[Scores]:
    """Bring several streams' scores into one order: common videos by id, classes as the first's.

    Videos that a stream has no answer for are left out, counted and named.

    Raises
    ------
    ScoresError
        If classes, labels or subsets don't agree, or no video is in all.
    """
    first = streams[0]
    common = set.intersection(*(set(scores.video_id.tolist()) for scores in streams))
    if left := sorted(set.union(*(set(s.video_id.tolist()) for s in streams)) - common):
        print(f"{len(left)} videos are not in every score file and left out: "
              + ", ".join(left[:10]) + (", ..." if len(left) > 10 else ""))  # fmt: skip
    if not common:
        raise ScoresError(f"no video is in all of {', '.join(s.stream for s in streams)}")
    joined = [_reorder(scores, common, first.classes, first.stream) for scores in streams]
    for scores in joined[1:]:
        for name in ("label", "subset"):
            differs = getattr(scores, name) != getattr(joined[0], name)
            if differs.any():
                raise ScoresError(
                    f"{scores.stream} and {first.stream} disagree on the {name} of "
                    f"{scores.video_id[differs][0]}: {getattr(scores, name)[differs][0]} and "
                    f"{getattr(joined[0], name)[differs][0]}"
                )
    return joined


def _reorder(scores: Scores, common: set[str], classes: tuple[str, ...], whose: str) -> Scores:
    if set(scores.classes) != set(classes):
        odd = sorted(set(scores.classes) ^ set(classes))[0]
        raise ScoresError(f"{scores.stream} and {whose} have other classes: {odd!r} is in one only")
    order = np.argsort(scores.video_id, kind="stable")
    kept = scores.rows(order[[scores.video_id[i] in common for i in order]])
    columns = [scores.classes.index(name) for name in classes]
    place = np.array([classes.index(name) for name in scores.classes])
    return replace(
        kept,
        classes=classes,
        label=place[kept.label],
        logits=kept.logits[:, columns],
        probs=kept.probs[:, columns],
    )
