"""A project of a dozen tiny clips, and `dvc repro warped_flow` in it as a user would call it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML

from pipeline import sample

ROOT = Path(__file__).parents[1]
CLIPS, FRAMES, SIDE = 12, 8, 48
STAGES = {"decode": "frames", "flow": "flow", "warped_flow": "warped_flow"}
_YAML = YAML(typ="safe", pure=True)


def make(folder: Path) -> Path:
    """Copy the project's tracked files to ``folder``, with clips and params that take seconds."""
    told = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in told.stdout.splitlines():
        copied = name.split("/")[0] in (".dvc", ".gitignore", "dvc.yaml", "models", "pipeline")
        if copied and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    codec = {"vcodec": "libx264", "crf": 10, "pix_fmt": "yuv420p"}
    for number in range(CLIPS):
        (folder / f"videos/c{number % 2}").mkdir(parents=True, exist_ok=True)
        path = folder / f"videos/c{number % 2}/v{number:02}.mp4"
        sample.encode(path, _pictures(number), 25, codec)
    tree = _YAML.load((ROOT / "params.yaml").read_text())
    tree["sample"] = {}
    tree["dataset"] |= {"videos": "videos", "lists": "videos", "group_pattern": ""}
    tree["limits"] |= {"stalled_seconds": 60}
    tree["decode"]["short_side"] = SIDE
    tree["flow"]["backend"] = "opencv"  # the one that needs no compiling
    tree["flow"]["tvl1"] |= {"scales": 2, "warps": 1}
    with (folder / "params.yaml").open("w") as file:
        _YAML.dump(tree, file)
    return folder


def _pictures(seed: int) -> np.ndarray:
    """Draw a texture that moves; (T, H, W, 3) uint8."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 10, 3), np.uint8)
    texture = coarse.repeat(8, 0).repeat(8, 1)
    return np.stack([np.roll(texture, 2 * frame, 1)[:, :64] for frame in range(FRAMES)])


def start(folder: Path, command=("dvc", "repro", "warped_flow"), **env) -> subprocess.Popen:
    """Start a command as a user would, in a process group of its own; its output is in ``log``."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PIPELINE_WORKERS": "2", "PYTHONPATH": "", **env}
    with (folder / "log").open("w") as log:
        return subprocess.Popen(
            command, cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True,
            # Who runs the tests in the background has SIGINT ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip


def said(folder: Path) -> str:
    """Give what the last command said."""
    return (folder / "log").read_text()


def run(folder: Path, **options) -> str:
    """Run a command to its good end; return what it said."""
    assert start(folder, **options).wait() == 0, said(folder)[-3000:]
    return said(folder)


def results(folder: Path) -> dict[str, bytes]:
    """Read all that the stages made, and ``dvc.lock``."""
    paths = [path for out in STAGES.values() for path in (folder / "data" / out).rglob("*")]
    paths = [path for path in [*paths, folder / "dvc.lock"] if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def whole_items(folder: Path) -> dict[Path, int]:
    """List the items that are whole, with their inodes: who makes one again makes another inode."""
    found = {}
    for item in folder.glob(".items/*/*"):
        if item.is_dir() and not item.name.startswith(("making-", "removing-")):
            assert json.loads((item / "item.json").read_text())["frames"]
            found[item] = item.stat().st_ino
    return found
