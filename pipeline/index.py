"""Stage ``index``: which videos there are, of which class, in which subset.

Reads a dataset's folder and its lists (see :mod:`pipeline.listings` for the four formats); writes
``OUT/videos.csv``, sorted by ``video_id`` (see :mod:`pipeline.videos`). Videos are hashed, not
decoded.

A dataset that a stream only learns beside the one in question (``auxiliary_datasets``) has an index
of its own, of its train clips, whose ids begin with its name.

A listed video that isn't there is a row with the status ``missing``; one that leads out of the
dataset's folder is not read and ``excluded`` (see :mod:`pipeline.locate`).
"""

import argparse
import hashlib
import re
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from pipeline import SUBSETS, items, listings, workers
from pipeline.listings import DatasetError, Listed, Listing, printable
from pipeline.locate import locate
from pipeline.params import Dataset, ParamsError, load
from pipeline.parent import end_with_dvc
from pipeline.progress import progress
from pipeline.splits import assign_subsets
from pipeline.videos import Video, video_ids, write_videos

_NAMED = 10
_EMPTY = hashlib.sha256(b"").hexdigest()  # empty files have no content in common


def read_listing(videos: Path, lists: Path, params: Dataset) -> Listing:
    """Read the dataset in its format; ``lists`` is the CSV or the folder of the official lists.

    Where there is one folder a class, ``lists`` is not read.
    """
    if params.format == "folders":
        return listings.read_folders(videos)
    if params.format == "csv":
        return listings.read_csv(lists)
    if params.format == "ucf101":
        return listings.read_ucf101(lists, params.split)
    return listings.read_hmdb51(lists, params.split)


def describe(root: Path, listing: Listing, params: Dataset) -> list[Video]:
    """Locate and hash each listed video; the subset stays empty where none is given."""
    listed = listing.videos
    ids = video_ids([one.path for one in listed], stems_alone=params.format == "ucf101")

    def one_row(one: Listed, video_id: str) -> Video:
        path, status, reason = locate(root, one.path, any_case=params.format == "ucf101")
        sha256 = ""
        if status == "ok":
            try:
                sha256 = items.hash_of(root / path)
            except OSError as error:
                status, reason = "excluded", f"can't be read: {error.strerror}"
        return Video(
            video_id=video_id, path=printable(str(root / path)), dataset=params.name,
            class_name=one.class_name, label=one.label, subset=one.subset,
            sha256=sha256, status=status, reason=reason,
        )  # fmt: skip

    with ThreadPoolExecutor(workers.count()) as pool:
        rows = pool.map(one_row, listed, ids)
        return list(progress(rows, total=len(listed), desc="index", unit="video"))


def find_groups(paths: Sequence[str], pattern: str) -> list[str]:
    """Name the group of each path inside the dataset's folder; without a pattern, itself.

    Raises
    ------
    DatasetError
        If the pattern doesn't match a path.
    """
    if not pattern:
        return list(paths)
    groups = []
    for path in paths:
        match = re.search(pattern, path)
        if not match:
            raise DatasetError(
                f"{path}: got no match for dataset.group_pattern {pattern!r}, expected one in "
                f"every path"
            )
        groups.append(next((part for part in match.groups() if part is not None), match[0]))
    return groups


def share_out(videos: Sequence[Video], groups: Sequence[str], params: Dataset) -> list[Video]:
    """Give each video a subset, by group and by content.

    Raises
    ------
    DatasetError
        If a class has no clip left to test, or no class has one left to validate, where the
        fraction asks for it.
    """
    keys = []
    for video, group in zip(videos, groups, strict=True):
        content = [f"sha256 {video.sha256}"] if video.sha256 not in ("", _EMPTY) else []
        keys.append([f"group {group}", *content])
    # A video that can't be used stands with its group, or with train; it doesn't count as a clip.
    usable = [i for i, video in enumerate(videos) if video.status == "ok"]
    subsets = assign_subsets(
        [videos[i].label for i in usable], [keys[i] for i in usable],
        params.test_fraction, params.val_fraction, params.seed,
    )  # fmt: skip
    by_group = {keys[i][0]: subset for i, subset in zip(usable, subsets, strict=True)}
    classes = {videos[i].class_name for i in usable}
    for subset, fraction in (("test", params.test_fraction), ("val", params.val_fraction)):
        held = {
            videos[i].class_name for i, own in zip(usable, subsets, strict=True) if own == subset
        }
        # Some classes may do without validation, but an untested one has no accuracy to average.
        if fraction > 0 and (not held or (subset == "test" and held != classes)):
            raise DatasetError(
                f"dataset.{subset}_fraction: got {len(usable)} clips in {len(by_group)} groups, of "
                f"which none is left for {subset} of the classes: {_name(sorted(classes - held))}; "
                f"expected more groups of these: see dataset.group_pattern"
            )
    return [
        replace(video, subset=by_group.get(own[0], "train"))
        for video, own in zip(videos, keys, strict=True)
    ]


def hold_out(videos: Sequence[Video], groups: Sequence[str], params: Dataset) -> list[Video]:
    """Take ``val_fraction`` of the given train clips for validation, by group and by content."""
    train = [i for i, video in enumerate(videos) if video.subset == "train"]
    shared = share_out(
        [videos[i] for i in train], [groups[i] for i in train], replace(params, test_fraction=0.0)
    )
    rows = list(videos)
    for i, row in zip(train, shared, strict=True):
        rows[i] = row
    return rows


def warnings(videos: Sequence[Video]) -> list[str]:
    """Say in a line each what a person should know of a dataset before training on it."""
    said = []
    usable = [video for video in videos if video.status == "ok"]
    by_hash = defaultdict(list)
    for video in usable:
        if video.sha256 != _EMPTY:
            by_hash[video.sha256].append(video)
    for what, value in (
        ("in two subsets", lambda video: video.subset),
        ("in two classes", lambda video: video.class_name),
    ):
        twice = [same for same in by_hash.values() if len({value(video) for video in same}) > 1]
        if twice:
            pairs = [" = ".join(video.path for video in same) for same in twice]
            said.append(f"the same content {what}: {_name(pairs)}")
    missing = [video.path for video in videos if video.status == "missing"]
    excluded = [f"{video.path} ({video.reason})" for video in videos if video.status == "excluded"]
    said += [
        f"{what}: {_name(names)}"
        for what, names in (("missing", missing), ("excluded", excluded))
        if names
    ]
    classes = {video.class_name for video in videos}
    for subset in sorted({video.subset for video in videos} | {"train"}):
        without = classes - {video.class_name for video in usable if video.subset == subset}
        if without:
            said.append(f"no {subset} clip of the classes: {_name(sorted(without))}")
    return said


def check_subsets(
    root: Path, videos: Sequence[Video], is_split: bool, *, tested: bool = True
) -> None:
    """Refuse a dataset that can't be trained on or tested, before hours go into it.

    Some classes may lack clips, as in a half-finished download; :func:`warnings` names them.
    """
    usable = [video for video in videos if video.status == "ok"]
    taught = sorted({video.class_name for video in usable if video.subset == "train"})
    if len(taught) < 2:
        raise DatasetError(
            f"{root}: got usable train clips of {len(taught)} of "
            f"{len({video.label for video in videos})} classes ({_name(taught) or 'none'}), "
            f"expected some of two or more"
        )
    if tested and not any(video.subset == "test" for video in usable):
        remedy = (
            f"{sum(video.subset == 'test' for video in videos)} are listed: expected some in the "
            f"lists and on disk"
            if is_split
            else "expected dataset.test_fraction above 0"
        )
        raise DatasetError(f"{root}: got no usable clip of the subset test, {remedy}")


def _name(names: Sequence[str]) -> str:
    """Name the first few in one line, whatever their characters."""
    line = ", ".join(names[:_NAMED]) + (f", … ({len(names)} in all)" if names[_NAMED:] else "")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


def run(videos: Path, lists: Path, out: Path, params: Dataset, *, auxiliary: bool = False) -> None:
    """Index a dataset into ``out/videos.csv``, and print what is in it.

    Of an ``auxiliary`` one only the train clips.

    Raises
    ------
    DatasetError
        If a list is broken, no video can be used, fewer than two classes have one to train on, or
        none has one to test.
    """
    started = time.monotonic()
    if not videos.is_dir():
        raise DatasetError(f"{videos}: no such folder, expected the dataset's videos in it")
    listing = read_listing(videos, lists, params)
    given = {video.subset for video in listing.videos} - {""}
    holds_out = bool(given) and params.val_fraction > 0 and "val" not in given
    # Before the hashing, which takes long: a pattern that doesn't fit is refused at once.
    needed = holds_out or not given
    groups = find_groups([v.path for v in listing.videos], params.group_pattern) if needed else []
    rows = describe(videos, listing, params)
    if not any(row.status == "ok" for row in rows):
        raise DatasetError(
            f"{videos}: none of {len(rows)} listed videos can be used (the first: {rows[0].path}: "
            f"{rows[0].reason}), expected <class>/<video> in it"
        )
    if not given:
        rows = share_out(rows, groups, params)
    elif holds_out:
        rows = hold_out(rows, groups, params)
    if given and (params.test_fraction or (params.val_fraction and not holds_out)):
        print("index: dataset's fractions aren't used, because each video comes with its subset")
    if listing.empty_folders:
        print(f"index: no video in the folders: {_name(listing.empty_folders)}")
    for line in warnings(rows):
        print(f"index: {line}")
    check_subsets(videos, rows, bool(given), tested=not auxiliary)
    if auxiliary:
        rows = [replace(row, video_id=f"{params.name}__{row.video_id}")
                for row in rows if row.subset == "train"]  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    write_videos(out / "videos.csv", sorted(rows, key=lambda row: row.video_id))
    count = Counter(row.subset for row in rows if row.status == "ok")
    print(
        f"index: {count.total()} videos "
        f"({', '.join(f'{count[subset]} {subset}' for subset in SUBSETS)}) of "
        f"{len({row.label for row in rows})} classes; "
        f"{sum(row.status == 'missing' for row in rows)} missing, "
        f"{sum(row.status == 'excluded' for row in rows)} excluded, "
        f"{listing.other_files} other files; {time.monotonic() - started:.1f} s"
    )


def main() -> None:
    """Run the stage from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("videos", type=Path, help="the dataset's folder")
    parser.add_argument("lists", type=Path, help="its CSV, or the folder of its official lists")
    parser.add_argument("out", type=Path, help="folder for videos.csv")
    parser.add_argument("--auxiliary", metavar="NAME", help="one of auxiliary_datasets")
    args = parser.parse_args()
    end_with_dvc()
    try:
        params, name = load(), args.auxiliary
        if name is not None and name not in params.auxiliary_datasets:
            raise ParamsError(
                f"auxiliary_datasets: no {name!r} among {sorted(params.auxiliary_datasets)}"
            )
        dataset = params.dataset if name is None else params.auxiliary_datasets[name]
        run(args.videos, args.lists, args.out, dataset, auxiliary=name is not None)
    except (DatasetError, ParamsError, OSError) as error:
        raise SystemExit(f"index: {error}") from None


if __name__ == "__main__":
    main()
