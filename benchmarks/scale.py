"""Run the pipeline's first stages on as many clips as UCF101 has, and see what DVC costs there.

Makes tiny clips, no two alike, that are named as UCF101's official lists name them, in a temporary
folder; copies the project's tracked files beside them, and times ``dvc repro``: the first one, one
that has nothing to do, one after a clip was added. See ``benchmarks/README.md``.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import imageio_ffmpeg
from common import machine
from ruamel.yaml import YAML

from pipeline import workers
from pipeline.video import media

ROOT = Path(__file__).parents[1]
CLASSES, GROUPS, CLIPS, TEST_GROUPS = 101, 25, 13_320, 7
SOURCES = ("testsrc2", "smptebars", "mandelbrot", "rgbtestsrc", "testsrc")
SIDE = 16  # the least that TV-L1 takes


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--count", type=int, default=CLIPS, help="clips, evenly chosen")
    parser.add_argument("--lists", type=Path, help="UCF101's official lists; else lists are made")
    parser.add_argument("--last-stage", default="flow", choices=["index", "decode", "flow"])
    parser.add_argument("--out", type=Path, help="where to write all this as JSON")
    parser.add_argument("--keep", action="store_true", help="leave the temporary folder there")
    args = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="scale-"))
    try:
        result = measure(work, args)
    finally:
        if not args.keep:
            shutil.rmtree(work, ignore_errors=True)
    show(result)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def measure(work, args):
    """Make the data set and the project, run the commands, and say what they took."""
    train, test = official(args.lists) if args.lists else made_up()
    train, test = spread(train, test, args.count)
    make_clips(work / "videos", [line.split()[0] for line in train + test])
    (work / "lists").mkdir()
    if args.lists:
        shutil.copyfile(args.lists / "classInd.txt", work / "lists/classInd.txt")
    write_lists(work / "lists", train, test)
    project = copy_project(work)
    steps = {}

    def step(name):
        print(f"{name} ...", flush=True)
        steps[name] = timed(project, name, [sys.executable, "-m", "dvc", "repro", args.last_stage])

    step("first run")
    check(project, len(train + test), "up to date" not in steps["first run"]["said"])
    step("nothing to do")
    check(project, len(train + test), "up to date" in steps["nothing to do"]["said"])
    added = train[0].split()[0].replace(".avi", "x.avi")
    make_clips(work / "videos", [added])
    write_lists(work / "lists", [*train, train[0].replace(".avi", "x.avi")], test)
    step("one clip added")
    check(project, len(train + test) + 1, "up to date" not in steps["one clip added"]["said"])
    stages = {name: one.pop("stages") for name, one in steps.items() if one.pop("said") or True}
    return {
        "machine": dvc_machine(),
        "clips": len(train + test),
        "last_stage": args.last_stage,
        "steps": steps,
        "stages_said": stages,
    }


def official(folder):
    """Read split 1 of the official lists."""
    return [
        [line for line in (folder / name).read_text("utf-8").splitlines() if line.strip()]
        for name in ("trainlist01.txt", "testlist01.txt")
    ]


def made_up():
    """Make lists of as many classes, groups and clips as UCF101 has."""
    train, test = [], []
    for i in range(CLIPS):
        label, group, clip = i % CLASSES, i // CLASSES % GROUPS, i // CLASSES // GROUPS
        name = f"Class{label + 1:03}"
        path = f"{name}/v_{name}_g{group + 1:02}_c{clip + 1:02}.avi"
        if group < TEST_GROUPS:
            test.append(path)
        else:
            train.append(f"{path} {label + 1}")
    return sorted(train), sorted(test)


def spread(train, test, count):
    """Choose ``count`` lines evenly from both lists."""
    total = len(train) + len(test)
    from_test = round(min(count, total) * len(test) / total)
    from_train = min(count, total) - from_test
    return [
        [lines[i * len(lines) // want] for i in range(want)]
        for lines, want in ((train, from_train), (test, from_test))
    ]


def make_clips(videos, paths):
    """Encode ten clips, and write each under many names with a different chunk of junk behind."""
    folder = videos.with_name("encoded")
    folder.mkdir(exist_ok=True)
    encoded = []
    for number in range(10):
        file = folder / f"{number}.avi"
        if not file.exists():
            source = f"{SOURCES[number % len(SOURCES)]}=s=48x36:r={10 + number}"
            subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi",
                            "-i", source, "-frames:v", str(4 + number % 5), "-c:v", "mpeg4",
                            str(file)], check=True)  # fmt: skip
        encoded.append(file.read_bytes())
    for number, path in enumerate(paths):
        target = videos / path
        target.parent.mkdir(parents=True, exist_ok=True)
        name = path.encode()
        chunk = b"JUNK" + len(name).to_bytes(4, "little") + name + b"\0" * (len(name) % 2)
        target.write_bytes(encoded[number % 10] + chunk)
    frames = list(media.read_frames(videos / paths[0], SIDE))  # raises where ffmpeg complains
    assert 4 <= len(frames) <= 8


def write_lists(folder, train, test):
    """Write both lists of split 1."""
    (folder / "trainlist01.txt").write_text("\n".join(train) + "\n", encoding="utf-8")
    (folder / "testlist01.txt").write_text("\n".join(test) + "\n", encoding="utf-8")


def copy_project(work):
    """Make a repository of the project's tracked files, with params for tiny clips."""
    project = work / "project"
    names = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in names:
        if name != "dvc.lock" and not name.startswith("results/") and (ROOT / name).is_file():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, project / name)
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    yaml = YAML()
    params = yaml.load((project / "presets/ucf101.yaml").read_text("utf-8"))
    params["dataset"] |= {"videos": str(work / "videos"), "lists": str(work / "lists")}
    params["decode"]["short_side"] = SIDE
    params["flow"]["tvl1"] |= {"scales": 1, "warps": 1}
    with (project / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(params, file)
    return project


def timed(project, name, command):
    """Run a command; give its seconds, and the memory of the largest of its processes."""
    log = project.with_name(f"{name.replace(' ', '-')}.log")
    env = {**os.environ, "PYTHONPATH": str(project)}
    with log.open("w") as said:
        start = time.monotonic()
        process = subprocess.Popen(command, cwd=project, env=env, stdout=said,
                                   stderr=subprocess.STDOUT, start_new_session=True)  # fmt: skip
        try:
            _, status, usage = os.wait4(process.pid, 0)
        finally:
            seconds = time.monotonic() - start
            with suppress(ProcessLookupError):  # a killed dvc leaves its stage running
                os.killpg(process.pid, signal.SIGTERM)
    text = log.read_text("utf-8", "replace")
    if status:
        raise SystemExit(f"{' '.join(command)}: ended with {status}:\n{text[-2000:]}")
    summaries = [line for line in text.splitlines() if " videos done (" in line]
    return {
        "seconds": round(seconds, 1),
        "largest_process_mb": round(usage.ru_maxrss / 1024),
        "said": text,
        "stages": summaries,
    }


def check(project, clips, right):
    """Refuse to report on a run that didn't do what it should."""
    assert right, "dvc ran what was up to date, or didn't run what wasn't"
    for folder in ("frames", "flow"):
        if (project / "data" / folder).is_dir():
            assert sum(1 for _ in (project / "data" / folder).glob("*.h5")) == clips, folder


def dvc_machine():
    """Say what ran this, and what else bears on the speed of DVC and of the stages' processes."""
    dvc = subprocess.run([sys.executable, "-m", "dvc", "--version"], capture_output=True, text=True)
    return machine() | {
        "workers": workers.count(),
        "load_at_start": round(os.getloadavg()[0], 1),
        "niceness": os.nice(0),
        "dvc": dvc.stdout.strip(),
    }


def show(result):
    """Print the table."""
    print(f"{result['clips']} clips up to the stage {result['last_stage']}: {result['machine']}\n")
    print("| `dvc repro` | seconds | largest process, MB |\n|---|---|---|")
    for name, step in result["steps"].items():
        print(f"| {name} | {step['seconds']} | {step['largest_process_mb']} |")


if __name__ == "__main__":
    main()
