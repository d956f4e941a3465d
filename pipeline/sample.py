"""Stage ``sample@NAME``: render a small labelled data set, so that a fresh clone has one.

Writes ``OUT/videos/<class>/<class>_gNN.<mp4|avi>``, where all clips of one recording NN share wall,
camera and light; ``OUT/truth/<clip>.h5`` with the exact displacement fields and homographies of a
few clips; and ``OUT/contact_sheet.png`` to look at.
"""

import argparse
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import ffmpeg
import h5py
import numpy as np

from pipeline.params import ParamsError, Sample, load
from pipeline.parent import end_with_dvc
from pipeline.progress import progress
from pipeline.rendering.actions import CLASSES
from pipeline.rendering.scene import Clip, render
from pipeline.video.media import ffmpeg_binary
from pipeline.whole_file import whole_file

# Two codecs and containers, because people's folders hold several.
_CODECS = (
    (".mp4", {"vcodec": "libx264", "crf": 18, "preset": "veryfast", "pix_fmt": "yuv420p"}),
    (".avi", {"vcodec": "mpeg4", "qscale": 3, "vtag": "XVID"}),
)


def make_clip(out: Path, action: str, recording: int, params: Sample) -> np.ndarray:
    """Render and encode one clip; return its middle frame (H, W, 3)."""
    clip = render(
        action,
        frames=params.frames,
        fps=params.fps,
        height=params.height,
        width=params.width,
        recording=recording,
        seed=params.seed,
    )
    name = f"{action}_g{recording:02}"
    suffix, codec = _CODECS[recording % len(_CODECS)]
    folder = out / "videos" / action
    folder.mkdir(parents=True, exist_ok=True)
    encode(folder / f"{name}{suffix}", clip.frames, params.fps, codec)
    # One clip of each class in turn, each of another recording.
    if recording <= params.truth_clips and CLASSES[(recording - 1) % len(CLASSES)] == action:
        (out / "truth").mkdir(exist_ok=True)
        write_truth(out / "truth" / f"{name}.h5", clip)
    return clip.frames[:: max(params.frames // 4, 1)][:4]


def encode(path: Path, frames: np.ndarray, fps: int, codec: dict) -> None:
    """Encode frames (T, H, W, 3) uint8 RGB; the same frames give the same bytes."""
    size = f"{frames.shape[2]}x{frames.shape[1]}"
    stream = ffmpeg.input("pipe:", format="rawvideo", pix_fmt="rgb24", s=size, r=fps)
    with whole_file(path) as scratch:
        stream = stream.output(
            str(scratch), threads=1, fflags="+bitexact", map_metadata=-1,
            **{"flags:v": "+bitexact"}, **codec,
        ).global_args("-nostdin", "-loglevel", "error")  # fmt: skip
        ffmpeg.run(stream, cmd=ffmpeg_binary(), input=frames.tobytes(), overwrite_output=True)


def write_truth(path: Path, clip: Clip) -> None:
    """Write frames before encoding, exact fields, homographies and the actor's mask."""
    with h5py.File(path, "w", track_order=True) as file:
        data = {
            "frames": clip.frames,
            "flow": clip.flow(),
            "homography": clip.homographies(),
            "foreground": clip.layers > 0,
        }
        for name, values in data.items():
            file.create_dataset(name, data=values, compression="gzip", compression_opts=4)
        file.attrs["frames"] = "(T, H, W, 3) uint8 RGB before encoding"
        file.attrs["flow"] = "(T-1, 2, H, W) float32 px, x first, from frame k to frame k+1"
        file.attrs["homography"] = "(T-1, 3, 3), (x, y, 1) of frame k to frame k+1, of the wall"
        file.attrs["foreground"] = "(T, H, W) bool, where the actor is"


def write_contact_sheet(path: Path, rows: dict[str, np.ndarray]) -> None:
    """Show four frames of one clip of each class, under its name."""
    strips = []
    for name, frames in rows.items():
        strip = np.hstack(list(frames))
        title = np.full((18, strip.shape[1], 3), 255, np.uint8)
        cv2.putText(title, name, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
        strips += [title, strip]
    cv2.imwrite(str(path), np.vstack(strips)[..., ::-1])


def run(out: Path, params: Sample) -> None:
    """Render all clips of all classes."""
    started = time.monotonic()
    wanted = [(action, 1 + n) for action in CLASSES for n in range(params.clips_per_class)]
    out.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(
        len(os.sched_getaffinity(0)),
        multiprocessing.get_context("spawn"),
        initializer=cv2.setNumThreads,
        initargs=(1,),
    ) as pool:
        futures = [pool.submit(make_clip, out, *which, params) for which in wanted]
        shown = [future.result() for future in progress(futures, desc="sample", unit="clip")]
    rows = {action: frames for (action, n), frames in zip(wanted, shown, strict=True) if n == 2}
    write_contact_sheet(out / "contact_sheet.png", rows)
    print(
        f"sample: {len(wanted)} clips of {len(CLASSES)} classes, {params.frames} frames each, in "
        f"{time.monotonic() - started:.1f} s"
    )


def main() -> None:
    """Run the stage from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("name", help="a key of params.yaml's sample")
    parser.add_argument("out", type=Path, help="folder for the clips")
    args = parser.parse_args()
    end_with_dvc()
    try:
        params = load()
        if args.name not in params.sample:
            raise ParamsError(f"sample: no {args.name!r} among {sorted(params.sample)}")
        run(args.out, params.sample[args.name])
    except (ParamsError, OSError, RuntimeError) as error:
        raise SystemExit(f"sample: {error}") from None


if __name__ == "__main__":
    main()
