"""Stage ``decode``: every frame of every video, scaled to one short side.

Reads ``INDEX/videos.csv`` and the videos it names; writes one stored video each (see
:mod:`pipeline.video.store`) and ``FRAMES/videos.csv``: the index with the number of frames, and
with a reason on each row whose video can't be used. The pictures of a packed video are kept as they
are.

Deviation from the papers: they stored the original frames, or 340x256 whatever the shape; here the
short side is scaled (up or down) and the aspect kept, non-square pixels and rotation honoured.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from pipeline.jobs import Excluded, Job, refuse_too_many, run_jobs, with_result
from pipeline.out_folder import out_folder
from pipeline.params import Decode, Limits, load
from pipeline.parent import end_with_dvc
from pipeline.stalls import alive
from pipeline.video import media, store
from pipeline.videos import read_videos, write_videos


def pictures_of(
    path: Path, params: Decode, made_by: dict
) -> Iterator[Sequence[np.ndarray | bytes]]:
    """Yield a video's frames, or a packed video's pictures; add to ``made_by`` what made those."""
    if path.suffix.lower() != store.PACKED:
        yield from ((frame,) for frame in media.read_frames(path, params.short_side))
        return
    with store.open_packed(path, store.FRAMES) as packed:
        height, width = packed.read(0, grey=True).shape
        if min(height, width) != params.short_side:
            raise store.StoreError(
                f"packed pictures are {width}x{height} and not scaled again, decode.short_side "
                f"says {params.short_side}"
            )
        made_by["packed"] = packed.made_by
        yield from (packed.jpegs(index) for index in range(len(packed)))


def decode_video(
    folder: Path, video_id: str, path: Path, sha256: str, params: Decode, version: str
) -> int:
    """Decode one video into ``folder``; return the number of frames.

    Raises
    ------
    Excluded
        If the file is damaged, or has fewer than the two frames that one displacement field needs.
    """
    made_by = {
        "source_sha256": sha256,
        "settings": {"short_side": params.short_side, "jpeg_quality": params.jpeg_quality},
        "method": version,
        "units": "RGB 0-255",
    }
    try:
        count = store.write_video(
            folder, video_id, alive(pictures_of(path, params, made_by)), store.FRAMES,
            store=params.store, quality=params.jpeg_quality, made_by=made_by,
        )  # fmt: skip
    except (media.MediaError, store.StoreError) as error:
        raise Excluded(str(error)) from None
    if count < 2:
        raise Excluded(f"{count} frame, at least 2 are needed for a displacement field")
    return count


def run(
    index: Path, out: Path, params: Decode, limits: Limits, auxiliary: Sequence[str] = ()
) -> None:
    """Decode all usable videos of an index, and of ``auxiliary`` datasets', into ``out``."""
    indexes = [index, *(index / name for name in auxiliary)]
    videos = [video for one in indexes for video in read_videos(one / "videos.csv")]
    version = (
        f"decode {media.METHOD_VERSION}, store {store.METHOD_VERSION}, "
        f"ffmpeg {media.ffmpeg_version()}, cv {cv2.__version__}"
    )
    jobs = [
        Job(
            video_id=video.video_id,
            source=Path(video.path),
            key={"sha256": video.sha256, "params": vars(params), "version": version},
            arguments=(Path(video.path), video.sha256, params, version),
        )
        for video in videos
        if video.status == "ok"
    ]
    with out_folder(out) as folder:
        done = run_jobs("decode", decode_video, jobs, folder, limits)
        write_videos(folder / "videos.csv", [with_result(video, done) for video in videos])
    refuse_too_many(out, done, limits)


def main() -> None:
    """Run the stage from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("index", type=Path, help="folder of videos.csv, made by the stage index")
    parser.add_argument("out", type=Path, help="folder for the stored frames")
    args = parser.parse_args()
    end_with_dvc()
    try:
        params = load()
        run(args.index, args.out, params.decode, params.limits, tuple(params.auxiliary_datasets))
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"decode: {error}") from None


if __name__ == "__main__":
    main()
