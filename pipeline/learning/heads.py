"""The classes of each dataset, which a network has a softmax head for, and checks of them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.learning.weights import Weights
from pipeline.videos import Video, VideosError, read_videos


def read_heads(source: Path, datasets: Sequence[str]) -> tuple[list[Video], dict[str, list[str]]]:
    """Read the videos of some datasets, as :func:`with_heads` gives them.

    Raises
    ------
    ValueError
        Names the file.
    """
    try:
        return with_heads(read_videos(source / "videos.csv"), datasets)
    except VideosError:
        raise
    except ValueError as error:
        raise ValueError(f"{source}/videos.csv: {error}") from None


def with_heads(
    videos: Sequence[Video], datasets: Sequence[str]
) -> tuple[list[Video], dict[str, list[str]]]:
    """Keep the videos of some datasets, with labels that count over all their classes, in order.

    Returns
    -------
    videos : list of Video
    heads : dict
        The classes of each dataset, used or not: those of its softmax head.

    Raises
    ------
    ValueError
        If there is no video of a dataset, or a label and a class aren't each other's alone, or a
        label is no number of a class; names the video.
    """
    kept, heads, first = [], {}, 0
    for name in datasets:
        own = [video for video in videos if video.dataset == name]
        if not own:
            raise ValueError(f"got no video of the dataset {name}, expected some")
        heads[name] = _classes_of(own)
        for video in own:
            if video.label >= len(heads[name]):
                raise ValueError(
                    f"got label {video.label} of {video.video_id}, expected one below the number "
                    f"of classes, {len(heads[name])}"
                )
        kept += [replace(video, label=first + video.label) for video in own]
        first += len(heads[name])
    return kept, heads


def _classes_of(videos: list[Video]) -> list[str]:
    """List the classes of a dataset's videos in the order of their labels."""
    classes, labels = {}, {}
    for video in videos:
        known = classes.setdefault(video.label, video.class_name)
        label = labels.setdefault(video.class_name, video.label)
        if (known, label) != (video.class_name, video.label):
            raise ValueError(
                f"got label {video.label} of {video.video_id}, {video.class_name}, expected "
                + (f"{label}, which others of that class have" if label != video.label
                   else f"another one than {known} has")
            )  # fmt: skip
    return [classes[label] for label in sorted(classes)]


def check_taught(
    source: Path, heads: dict[str, list[str]], training: list[Video], max_untaught: float
) -> None:
    """Refuse classes that can't be trained on; ``max_untaught`` is of each dataset's.

    Raises
    ------
    ValueError
        If too many classes of a dataset have no clip, or fewer than two have one.
    """
    for name, classes in heads.items():
        taught = {video.class_name for video in training if video.dataset == name}
        if len(taught) < 2:
            raise ValueError(
                f"{source}/videos.csv: got usable clips in the subset train of {len(taught)} of "
                f"{len(classes)} classes, expected some of two or more"
            )
        untaught = [class_name for class_name in classes if class_name not in taught]
        told = f"no usable clip in the subset train of the classes {', '.join(untaught)}"
        if len(untaught) > max_untaught * len(classes):
            raise ValueError(
                f"{source}/videos.csv: got {told}, expected some of each, or limits.max_untaught "
                f"of at least {len(untaught) / len(classes):.3g}"
            )
        if untaught:
            print(f"{source}: {told}")


def check_same(path: Path, kept: Weights, heads: dict[str, list[str]], source: Path) -> None:
    """Refuse weights of other classes than the first head's.

    Raises
    ------
    ValueError
        Names the file of weights.
    """
    classes = next(iter(heads.values()))
    if kept.classes != classes:
        raise ValueError(
            f"{path}: got weights of other classes than {source}/videos.csv has, expected the same "
            f"{len(classes)}"
        )
