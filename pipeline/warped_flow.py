"""Stage ``warped_flow``: TV-L1 flow without the camera's motion (TSN, section 3.2).

Reads the stored frames and flow; writes stored flow of the same form and a ``videos.csv``. For each
pair the camera's homography is estimated (:mod:`pipeline.video.camera`), frame k+1 is warped back
to frame k's view, and TV-L1 is computed anew. Where no homography can be had, the plain flow stands
unchanged, and the file says in how many pairs that was.

``mode: subtract`` takes the homography's displacement off the plain flow instead. That costs no
TV-L1, but keeps what plain flow got wrong: large camera motion that it failed to follow, and its
quantisation, of which displacements past the bound lose all.
"""

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from pipeline.flow_jobs import jobs_of, made_by, with_backend
from pipeline.jobs import refuse_too_many, run_jobs, with_result
from pipeline.out_folder import out_folder
from pipeline.params import Flow, Limits, WarpedFlow, load
from pipeline.parent import end_with_dvc
from pipeline.stalls import alive
from pipeline.video import camera, store, tvl1
from pipeline.videos import read_videos, write_videos


class _Move(NamedTuple):
    """A pair of grey frames (H, W) uint8 and the homography between them."""

    previous: np.ndarray
    current: np.ndarray
    homography: np.ndarray


def warped_codes(
    frames: store.StoredVideo, flow: store.StoredVideo, params: Flow, warped: WarpedFlow, told: dict
) -> Iterator[np.ndarray]:
    """Yield a video's warped fields as codes (2, H, W) uint8; count identities in ``told``."""
    camera_of = _Camera(frames.read(0, grey=True), warped)
    at_once = tvl1.batch_size(*camera_of.previous.shape)
    for start in range(0, len(flow), at_once):
        chosen = range(start, min(start + at_once, len(flow)))
        codes = flow.read_many(chosen)
        moves = [
            camera_of.motion(frames.read(index + 1, grey=True), field, params.bound)
            for index, field in zip(chosen, codes, strict=True)
        ]
        known = np.array([move is not None for move in moves])
        told["pairs_without_homography"] += int((~known).sum())
        if known.any():
            compute = _recomputed if warped.mode == "recompute" else _subtracted
            found = compute([m for m in moves if m], codes[known], params, warped.border)
            codes[known] = [store.quantise(field, params.bound) for field in found]
        yield from codes


def _method(warped: WarpedFlow) -> dict:
    """Give what bears on the result."""
    values = asdict(warped)
    del values["compute"]
    return values


class _Camera:
    """The camera's motion from frame to frame of one video."""

    def __init__(self, first: np.ndarray, warped: WarpedFlow) -> None:
        values = _method(warped)
        del values["mode"]
        self.settings = camera.Settings(**values)
        self.previous, self.features = first, camera.detect(first, self.settings)

    def motion(self, current: np.ndarray, codes: np.ndarray, bound: float) -> _Move | None:
        """Go on to the next frame; None where no homography could be estimated."""
        previous, features = self.previous, self.features
        self.previous, self.features = current, camera.detect(current, self.settings)
        plain = store.dequantise(codes, bound)
        motion = camera.estimate(features, self.features, previous, plain, self.settings)
        return _Move(previous, current, motion.homography) if motion.estimated else None


def _recomputed(moves: list[_Move], codes: np.ndarray, params: Flow, border: int) -> np.ndarray:
    """Compute the flow from each frame to the next one as seen from there (TSN's way)."""
    settings = tvl1.Settings(**asdict(params.tvl1))
    back = [camera.warp_to_previous(*move, border) for move in moves]
    first = np.stack([move.previous for move in moves])
    return tvl1.tvl1_pairs(first, np.stack(back), settings, params.backend)


def _subtracted(moves: list[_Move], codes: np.ndarray, params: Flow, border: int) -> np.ndarray:
    """Take the homography's own displacement off the plain flow."""
    still = np.stack([camera.displacement(m.homography, *m.previous.shape) for m in moves])
    return store.dequantise(codes, params.bound) - still


def warp_video(
    folder: Path, video_id: str, frames_folder: Path, flow_folder: Path, hashes: list[str],
    params: Flow, warped: WarpedFlow, version: str,
) -> int:  # fmt: skip
    """Compute one video's warped flow into ``folder``; return the number of fields."""
    told = made_by(hashes, params, version) | {
        "settings": asdict(params) | {"warped_flow": _method(warped)},
        "pairs_without_homography": 0,
    }
    with (
        store.StoredVideo(frames_folder, video_id, store.FRAMES) as frames,
        store.StoredVideo(flow_folder, video_id, store.FLOW) as flow,
    ):
        return store.write_video(
            folder, video_id,
            alive(warped_codes(frames, flow, params, warped, told)), store.FLOW,
            store=params.store, quality=params.jpeg_quality, made_by=told,
        )  # fmt: skip


def run(
    frames: Path, flow: Path, out: Path, params: Flow, warped: WarpedFlow, limits: Limits
) -> None:
    """Compute the warped flow of all usable videos of ``flow`` into ``out``."""
    if not warped.compute:
        print("warped_flow: none, as warped_flow.compute says")
        out.mkdir(parents=True, exist_ok=True)
        return
    videos = read_videos(flow / "videos.csv")
    if params.backend != "given":  # then nothing is computed anew
        params = with_backend(params)
    print(f"warped_flow: {warped.mode}, TV-L1 backend {params.backend}")
    version = (
        f"camera {camera.METHOD_VERSION}, tvl1 {tvl1.METHOD_VERSION}, "
        f"store {store.METHOD_VERSION}, cv {cv2.__version__}"
    )
    settings = {"flow": asdict(params), "warped_flow": _method(warped)}
    jobs = jobs_of(videos, frames, flow, settings=settings, arguments=(params, warped),
                   version=version)  # fmt: skip
    with out_folder(out) as folder:
        done = run_jobs("warped_flow", warp_video, jobs, folder, limits)
        write_videos(folder / "videos.csv", [with_result(video, done) for video in videos])
    refuse_too_many(out, done, limits)


def main() -> None:
    """Run the stage from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("frames", type=Path, help="folder of stored frames")
    parser.add_argument("flow", type=Path, help="folder of stored flow")
    parser.add_argument("out", type=Path, help="folder for the warped flow")
    args = parser.parse_args()
    end_with_dvc()
    try:
        params = load()
        run(args.frames, args.flow, args.out, params.flow, params.warped_flow, params.limits)
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"warped_flow: {error}") from None


if __name__ == "__main__":
    main()
