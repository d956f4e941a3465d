"""Stage ``warped_flow``: TV-L1 flow without the camera's motion (TSN, section 3.2).

Reads the stored frames and flow; writes stored flow of the same form and a ``videos.csv``. For each
pair the camera's homography is estimated (:mod:`pipeline.video.camera`), frame k+1 is warped back
to frame k's view, and TV-L1 is computed anew. Where no homography can be had, the plain flow stands
unchanged, and the file says in how many pairs that was.
"""

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from pipeline import items
from pipeline.params import Flow, WarpedFlow, load
from pipeline.video import camera, store, tvl1
from pipeline.videos import read_videos, with_result, write_videos


def warped_fields(
    frames: store.StoredVideo, flow: store.StoredVideo, params: Flow, warped: WarpedFlow, told: dict
) -> Iterator[np.ndarray]:
    """Yield a video's warped fields as codes (2, H, W) uint8; count identities in ``told``."""
    settings = tvl1.Settings(**asdict(params.tvl1))
    moving = camera.Settings(**asdict(warped))
    previous = frames.read(0, grey=True)
    features = camera.detect(previous, moving)
    for index in range(len(flow)):
        current = frames.read(index + 1, grey=True)
        codes = flow.read(index)
        found = camera.detect(current, moving)
        plain = store.dequantise(codes, params.bound)
        motion = camera.estimate(features, found, previous, plain, moving)
        if motion.estimated:
            back = camera.warp_to_previous(previous, current, motion.homography, moving.border)
            field = tvl1.tvl1_pair(previous, back, settings, params.backend)
            codes = store.quantise(field, params.bound)
        else:
            told["pairs_without_homography"] += 1
        yield codes
        previous, features = current, found


def warp_video(
    folder: Path, video_id: str, frames_folder: Path, flow_folder: Path, hashes: list[str],
    params: Flow, warped: WarpedFlow, version: str,
) -> int:  # fmt: skip
    """Compute one video's warped flow into ``folder``; return the number of fields."""
    made_by = {
        "source_sha256": hashes,
        "settings": asdict(params) | {"warped_flow": asdict(warped)},
        "method": version,
        "units": f"code c is (c - 127.5) * {2 * params.bound}/255 px",
        "pairs_without_homography": 0,
    }
    with (
        store.StoredVideo(frames_folder, video_id, store.FRAMES) as frames,
        store.StoredVideo(flow_folder, video_id, store.FLOW) as flow,
    ):
        return store.write_video(
            folder, video_id, warped_fields(frames, flow, params, warped, made_by), store.FLOW,
            store=params.store, quality=params.jpeg_quality, made_by=made_by,
        )  # fmt: skip


def run(frames: Path, flow: Path, out: Path, params: Flow, warped: WarpedFlow) -> None:
    """Compute the warped flow of all usable videos of ``flow`` into ``out``."""
    videos = read_videos(flow / "videos.csv")
    version = f"camera {camera.METHOD_VERSION}, tvl1 {tvl1.METHOD_VERSION}"
    settings = {"flow": asdict(params), "warped_flow": asdict(warped)}
    jobs = []
    for video in videos:
        if video.status == "ok":
            hashes = [
                items.hash_of(store.stored_path(folder, video.video_id))
                for folder in (frames, flow)
            ]
            jobs.append(
                items.Job(
                    video_id=video.video_id,
                    key={"sha256": hashes, "params": settings, "version": version},
                    arguments=(frames, flow, hashes, params, warped, version),
                )
            )
    done = items.run_jobs("warped_flow", warp_video, jobs, out)
    write_videos(out / "videos.csv", [with_result(video, done) for video in videos])


def main() -> None:
    """Run the stage from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("frames", type=Path, help="folder of stored frames")
    parser.add_argument("flow", type=Path, help="folder of stored flow")
    parser.add_argument("out", type=Path, help="folder for the warped flow")
    args = parser.parse_args()
    params = load()
    run(args.frames, args.flow, args.out, params.flow, params.warped_flow)


if __name__ == "__main__":
    main()
