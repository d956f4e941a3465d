"""Take over frames and flow that another tool made: one packed video file for each folder.

``python -m pipeline.adopt SOURCE OUT --layout denseflow --bound 20`` reads ``SOURCE/**/<video>/``
and writes ``OUT/**/<video>.h5``, which stands where a video file would: point ``dataset.videos``
at OUT, and set ``flow.backend: given``. The JPEG bytes are kept as they are; only their numbers
change (see :mod:`pipeline.video.layouts`). It isn't a stage: what it writes is data that goes in.

A folder that lacks a picture becomes a file that says so, and in the end a row with that reason.
Zero is code 128 for tools that round and 127 for those that truncate (mmaction2's own script): half
a code above or below no motion, so neither is changed.
"""

import argparse
import csv
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from pipeline import SUBSETS, workers
from pipeline.progress import progress
from pipeline.video import store
from pipeline.video.layouts import LAYOUTS, Layout, LayoutError, aligned, find_videos


class AdoptError(ValueError):
    """Nothing can be taken over as it was asked for; the message says why in one line."""


def pack(source: Path, out: Path, video: str, *, layout: str, bound: float | None) -> str:
    """Pack one video's folder; return the reason if it can't be used.

    Raises
    ------
    AdoptError
        If there is flow and no bound was given.
    """
    target = out / f"{video}{store.PACKED}"
    target.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: a killed run leaves no file that looks like a video.
    with tempfile.TemporaryDirectory(prefix=".packing-", dir=out) as scratch:
        folder, made_by = Path(scratch), {"layout": layout, "bound": bound}
        try:
            pictures, fields = aligned(source, video, LAYOUTS[layout])
            if fields and bound is None:
                raise AdoptError(
                    "--bound: got none and there is flow, expected the px that its codes 0 and 255 "
                    "stand for (by default 15 in dense_flow, 20 in gpu_flow, 32 in denseflow)"
                )
            _write(folder, pictures, fields, made_by)
        except LayoutError as error:
            for left in folder.iterdir():
                left.unlink()
            # With its name in it, so that no two such notes are the same content to the index.
            made_by = {"layout": layout, "video": video, "excluded": str(error)}
            _write(folder, [], [], made_by)
        (folder / f"v{store.PACKED}").replace(target)
    return made_by.get("excluded", "")


def _write(
    folder: Path, pictures: Sequence[Path], fields: Sequence[tuple[Path, Path]], made_by: dict
) -> None:
    checked = _Checked()
    write = partial(store.write_video, folder, "v", store="hdf5", quality=95, made_by=made_by)
    write(((checked.read(picture),) for picture in pictures), store.FRAMES)
    write(((checked.read(x), checked.read(y)) for x, y in fields), store.FLOW)


class _Checked:
    """Read JPEG files that must all be whole and of one size."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()

    def read(self, path: Path) -> bytes:
        data = path.read_bytes()
        # A file that ends early still decodes, grey at the bottom.
        whole = data.rstrip(b"\0").endswith(b"\xff\xd9")
        decoded = whole and cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
        if decoded is False or decoded is None:
            raise LayoutError(f"{path.name} is no whole JPEG picture ({len(data)} bytes)")
        self.shape = self.shape or decoded.shape
        if decoded.shape != self.shape:
            (height, width), (high, wide) = decoded.shape, self.shape
            raise LayoutError(f"{path.name} is {width}x{height}, the first picture {wide}x{high}")
        return data


def read_list(path: Path, videos: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Read ``frame_dir total_frames label`` lines; a folder is known by the end of its path.

    Raises
    ------
    AdoptError
        With file and line.
    """
    known = set(videos)
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        parts = line.rsplit(maxsplit=2)
        if len(parts) < 3 or not (parts[1].isdecimal() and parts[2].isdecimal()):
            raise AdoptError(
                f"{path}:{number}: got {line!r}, expected <folder> <number of frames> <label>"
            )
        steps = PurePosixPath(parts[0].strip()).parts
        ends = ["/".join(steps[i:]) for i in range(len(steps))]
        found = next((end for end in ends if end in known), None)
        if found is None:
            raise AdoptError(f"{path}:{number}: got {parts[0]!r}, expected a folder of the source")
        yield found, int(parts[2])


def run(
    source: Path, out: Path, *, layout: str, bound: float | None, lists: dict[str, Path]
) -> None:
    """Pack all videos of ``source``, and turn the lists into one CSV.

    Raises
    ------
    LayoutError, AdoptError
        If there is nothing to pack, a list is broken, or the flow's bound isn't known.
    """
    chosen: Layout = LAYOUTS[layout]
    videos = find_videos(source, chosen)
    rows = [
        (f"{video}{store.PACKED}", label, subset)
        for subset, path in lists.items()
        for video, label in read_list(path, videos)
    ]
    out.mkdir(parents=True, exist_ok=True)
    one = partial(pack, source, out, layout=layout, bound=bound)
    with ThreadPoolExecutor(workers.count()) as pool:
        reasons = dict(
            zip(videos, progress(pool.map(one, videos), total=len(videos), desc="adopt",
                                 unit="video"), strict=True)
        )  # fmt: skip
    if rows:
        with (out / "list.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([("path", "label", "subset"), *rows])
    excluded = {video: reason for video, reason in reasons.items() if reason}
    print(f"adopt: {len(videos) - len(excluded)} videos packed, {len(excluded)} can't be used")
    for video, reason in list(excluded.items())[:10]:
        print(f"adopt: {video}: {reason}")


def _named_list(text: str) -> tuple[str, Path]:
    subset, _, path = text.partition("=")
    if subset not in SUBSETS or not path:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected train=FILE, val=... or test=...")
    return subset, Path(path)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("source", type=Path, help="folder that holds a folder a video")
    parser.add_argument("out", type=Path, help="folder for the packed videos")
    parser.add_argument("--layout", choices=LAYOUTS, required=True, help="the tool that made it")
    parser.add_argument("--bound", type=float, help="px that codes 0 and 255 stand for")
    parser.add_argument(
        "--list", type=_named_list, action="append", default=[], metavar="SUBSET=FILE",
        help="lines of <folder> <number of frames> <label>, as TSN and mmaction2 have them; makes "
             "OUT/list.csv for dataset.format csv",
    )  # fmt: skip
    args = parser.parse_args()
    try:
        run(args.source, args.out, layout=args.layout, bound=args.bound, lists=dict(args.list))
    except (ValueError, OSError) as error:
        raise SystemExit(f"adopt: {error}") from None


if __name__ == "__main__":
    main()
