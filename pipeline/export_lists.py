"""Write the lists by which other tools read our frames or flow.

``python -m pipeline.export_lists data/flow data/lists`` writes ``data/lists/flow_train.txt`` and so
on: one line ``<folder> <number of pictures> <label>`` a usable video, the format of TSN,
tsn-pytorch and mmaction2's ``RawframeDataset``. Run it for frames and for flow: N frames have N-1
fields, and a flow stream that reads the frames' counts looks for a last field that isn't there.
"""

import argparse
from pathlib import Path

from pipeline import SUBSETS
from pipeline.video import store
from pipeline.videos import Video, read_videos


class ListsError(ValueError):
    """Stored videos that other tools can't read; the message says why in one line."""


def line(folder: Path, video: Video, prefix: str) -> str:
    """Give one video's line.

    Raises
    ------
    ListsError
        If it isn't stored as a folder, or holds another number of pictures than its row says.
    """
    path = store.stored_path(folder, video.video_id)
    if path.is_file():
        raise ListsError(f"{path}: stored as HDF5, expected decode.store and flow.store to be jpeg")
    try:
        count = len(store.StoredVideo(folder, video.video_id, store.FRAMES))
    except FileNotFoundError:
        count = len(store.StoredVideo(folder, video.video_id, store.FLOW))
    if count != video.frames:
        raise ListsError(f"{path}: got {count} pictures, expected {video.frames}")
    return f"{prefix}{video.video_id} {video.frames} {video.label}\n"


def run(folder: Path, out: Path, prefix: str) -> None:
    """Write a list of each subset that has videos, and the classes in the order of their labels."""
    videos = read_videos(folder / "videos.csv")
    if len({video.dataset for video in videos}) > 1:
        raise ListsError(f"{folder}/videos.csv: got several datasets, expected one: labels would "
                         "meet; see auxiliary_datasets")  # fmt: skip
    usable = [video for video in videos if video.status == "ok"]
    out.mkdir(parents=True, exist_ok=True)
    for subset in SUBSETS:
        lines = [line(folder, v, prefix) for v in usable if v.subset == subset]
        path = out / f"{folder.resolve().name}_{subset}.txt"
        path.unlink(missing_ok=True)
        if lines:
            path.write_text("".join(lines), encoding="utf-8")
            print(f"export_lists: {len(lines)} videos in {path}")
    classes = dict(sorted((video.label, video.class_name) for video in videos))
    text = "".join(f"{name}\n" for name in classes.values())
    (out / "classes.txt").write_text(text, encoding="utf-8")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path, help="data/frames, data/flow or data/warped_flow")
    parser.add_argument("out", type=Path, help="folder for the lists")
    parser.add_argument(
        "--prefix", default="",
        help="put this before each folder's name: data/frames/ for tools that know no root",
    )  # fmt: skip
    args = parser.parse_args()
    try:
        run(args.folder, args.out, args.prefix)
    except (ValueError, OSError) as error:
        raise SystemExit(f"export_lists: {error}") from None


if __name__ == "__main__":
    main()
