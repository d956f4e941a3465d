"""Stage ``flow``: TV-L1 displacement fields between consecutive frames, quantised to 0-255.

Reads the stored frames and their ``videos.csv``; writes stored flow (see
:mod:`pipeline.video.store`) and its own ``videos.csv``. N frames give N-1 fields; field k goes from
frame k to frame k+1.

``backend: given`` computes none: it takes the flow of packed videos as another tool made it.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

import cv2

from pipeline import items
from pipeline.flow_jobs import codes, made_by, with_backend
from pipeline.jobs import Excluded, Job, refuse_too_many, run_jobs, with_result
from pipeline.out_folder import out_folder
from pipeline.params import Flow, Limits, load
from pipeline.parent import end_with_dvc
from pipeline.stalls import alive
from pipeline.video import store, tvl1
from pipeline.videos import read_videos, write_videos


def flow_video(
    folder: Path, video_id: str, frames_folder: Path, sha256: str, params: Flow, version: str
) -> int:
    """Compute one video's flow into ``folder``; return the number of fields."""
    told = made_by(sha256, params, version)
    with store.StoredVideo(frames_folder, video_id, store.FRAMES) as frames:
        return store.write_video(
            folder, video_id,
            alive(codes(frames, params)), store.FLOW,
            store=params.store, quality=params.jpeg_quality, made_by=told,
        )  # fmt: skip


def given_flow(
    folder: Path, video_id: str, path: Path, sha256: str, params: Flow, version: str
) -> int:
    """Take a packed video's flow as it is; return the number of fields.

    Raises
    ------
    Excluded
        If there is none, or it was quantised with another bound.
    """
    told = made_by(sha256, params, version)
    try:
        with store.open_packed(path, store.FLOW) as packed:
            if not len(packed):
                raise store.StoreError("no flow came with the video, flow.backend says given")
            if packed.made_by["bound"] != params.bound:
                raise store.StoreError(
                    f"the given flow's bound is {packed.made_by['bound']:g} px, flow.bound says "
                    f"{params.bound:g}"
                )
            told["packed"] = packed.made_by
            return store.write_video(
                folder, video_id,
                alive(packed.jpegs(index) for index in range(len(packed))), store.FLOW,
                store=params.store, quality=params.jpeg_quality, made_by=told,
            )  # fmt: skip
    except store.StoreError as error:
        raise Excluded(str(error)) from None


def run(frames: Path, out: Path, params: Flow, limits: Limits) -> None:
    """Compute the flow of all usable videos of ``frames`` into ``out``."""
    videos = read_videos(frames / "videos.csv")
    usable = [video for video in videos if video.status == "ok"]
    if params.backend == "given":
        print("flow: given with the videos")
        make, version = given_flow, f"given, store {store.METHOD_VERSION}"
        sources = [(Path(video.path), video.sha256) for video in usable]
    else:
        params = with_backend(params)
        print(f"flow: TV-L1 backend {params.backend}")
        make = flow_video
        version = f"tvl1 {tvl1.METHOD_VERSION}, store {store.METHOD_VERSION}, cv {cv2.__version__}"
        stored = [store.stored_path(frames, video.video_id) for video in usable]
        sources = [(frames, items.hash_of(path)) for path in stored]
    jobs = [
        Job(
            video_id=video.video_id,
            source=Path(video.path),
            key={"sha256": sha256, "params": asdict(params), "version": version},
            arguments=(source, sha256, params, version),
        )
        for video, (source, sha256) in zip(usable, sources, strict=True)
    ]
    with out_folder(out) as folder:
        done = run_jobs("flow", make, jobs, folder, limits)
        write_videos(folder / "videos.csv", [with_result(video, done) for video in videos])
    refuse_too_many(out, done, limits)


def main() -> None:
    """Run the stage from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("frames", type=Path, help="folder of stored frames")
    parser.add_argument("out", type=Path, help="folder for the stored flow")
    args = parser.parse_args()
    end_with_dvc()
    try:
        params = load()
        run(args.frames, args.out, params.flow, params.limits)
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"flow: {error}") from None


if __name__ == "__main__":
    main()
