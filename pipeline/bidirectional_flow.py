"""Stage ``bidirectional_flow``: flow forward and backward in time (Two-Stream, section 3.1).

Reads the stored frames and flow; writes a ``videos.csv`` and stored flow that has ``back_x`` and
``back_y`` beside ``flow_x`` and ``flow_y``. Forward fields are the JPEG bytes of the plain flow.
Backward field k goes from frame k+1 to frame k: TV-L1 with the settings of ``flow`` on the frames
in reverse order, quantised alike.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

import cv2

from pipeline.flow_jobs import codes, jobs_of, made_by, with_backend
from pipeline.jobs import Excluded, refuse_too_many, run_jobs, with_result
from pipeline.out_folder import out_folder
from pipeline.params import BidirectionalFlow, Flow, Limits, load
from pipeline.parent import end_with_dvc
from pipeline.stalls import alive
from pipeline.video import store, tvl1
from pipeline.videos import read_videos, write_videos


def both_ways(
    folder: Path, video_id: str, frames_folder: Path, flow_folder: Path, hashes: list[str],
    params: Flow, version: str,
) -> int:  # fmt: skip
    """Write one video's bidirectional flow into ``folder``; return the fields in each direction.

    Raises
    ------
    Excluded
        If there is not a field of flow for every pair of frames.
    """
    with (
        store.StoredVideo(frames_folder, video_id, store.FRAMES) as frames,
        store.StoredVideo(flow_folder, video_id, store.FLOW) as flow,
    ):
        if len(flow) != len(frames) - 1:
            raise Excluded(f"got {len(flow)} fields, expected {len(frames) - 1}")
        backward = alive(codes(frames, params, backward=True))
        pairs = zip(map(flow.jpegs, range(len(flow))), backward, strict=True)
        return store.write_video(
            folder, video_id,
            ((*jpegs, *back) for jpegs, back in pairs),
            store.BIDIRECTIONAL, store=params.store, quality=params.jpeg_quality,
            made_by=made_by(hashes, params, version),
        )  # fmt: skip


def run(
    frames: Path, flow: Path, out: Path, params: Flow, wanted: BidirectionalFlow, limits: Limits
) -> None:
    """Compute the backward flow of all usable videos of ``flow`` and write both into ``out``."""
    if not wanted.compute:
        print("bidirectional_flow: none, as bidirectional_flow.compute says")
        out.mkdir(parents=True, exist_ok=True)
        return
    params = with_backend(params)
    print(f"bidirectional_flow: TV-L1 backend {params.backend}")
    version = f"tvl1 {tvl1.METHOD_VERSION}, store {store.METHOD_VERSION}, cv {cv2.__version__}"
    videos = read_videos(flow / "videos.csv")
    jobs = jobs_of(videos, frames, flow, settings=asdict(params), arguments=(params,),
                   version=version)  # fmt: skip
    with out_folder(out) as folder:
        done = run_jobs("bidirectional_flow", both_ways, jobs, folder, limits)
        write_videos(folder / "videos.csv", [with_result(video, done) for video in videos])
    refuse_too_many(out, done, limits)


def main() -> None:
    """Run the stage from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("frames", type=Path, help="folder of stored frames")
    parser.add_argument("flow", type=Path, help="folder of stored flow")
    parser.add_argument("out", type=Path, help="folder for the bidirectional flow")
    args = parser.parse_args()
    end_with_dvc()
    try:
        params = load()
        run(args.frames, args.flow, args.out, params.flow, params.bidirectional_flow, params.limits)
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"bidirectional_flow: {error}") from None


if __name__ == "__main__":
    main()
