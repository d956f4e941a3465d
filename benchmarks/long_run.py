"""Memory of a training that goes on for long: whether it is flat.

Trains one stream of ``params.yaml`` by its stage's command, in a scratch folder, for as long as
asked, and adds up the memory of its processes every ten seconds; on Linux alone. See
``benchmarks/README.md``.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from common import machine
from ruamel.yaml import YAML

_EVERY_S, _AT_LEAST_MIN = 10, 2


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--stream", default="temporal", help="of params.yaml")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--out", type=Path, help="where to write all this as JSON")
    args = parser.parse_args()
    if args.minutes < _AT_LEAST_MIN:
        parser.error(f"--minutes: got {args.minutes:g}, expected at least {_AT_LEAST_MIN}")
    with tempfile.TemporaryDirectory() as scratch:
        params = YAML().load(Path("params.yaml"))
        stream = params["streams"][args.stream]
        stream["training"].update(epochs=1_000_000, milestones=[], patience=0)
        YAML().dump(params, Path(scratch) / "params.yaml")
        (Path(scratch) / "data").symlink_to(Path("data").resolve())
        curve = Path(scratch) / "curve.csv"
        samples = watched(scratch, args.stream, stream["source"], curve, args.minutes * 60)
        epochs = len(curve.read_text(encoding="utf-8").splitlines()) - 1 if curve.exists() else 0
    minutes, mib = np.array(samples).T
    settled = minutes >= minutes[-1] / 6
    slope = np.polyfit(minutes[settled] / 60, mib[settled], 1)[0]
    result = {
        "machine": machine(),
        "stream": args.stream,
        "minutes": round(float(minutes[-1]), 1),
        "epochs": epochs,
        "mib_after_a_sixth": round(float(mib[settled][0])),
        "mib_at_the_end": round(float(mib[-1])),
        "mib_at_most": round(float(mib.max())),
        "mib_an_hour_more": round(float(slope), 1),
        "samples": [[round(m, 2), round(total)] for m, total in samples],
    }
    print({name: value for name, value in result.items() if name != "samples"})
    if args.out:
        args.out.write_text(json.dumps(result) + "\n", encoding="utf-8")


def watched(folder, stream, source, curve, seconds):
    """Train; give (minutes, MiB of all its processes) every so often."""
    env = os.environ | {"PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, "-m", "pipeline.train", stream, f"data/{source}", "weights.pt",
               curve]  # fmt: skip
    started, samples, said = time.monotonic(), [], Path(folder) / "said"
    with said.open("wb") as file:
        process = subprocess.Popen(command, cwd=folder, env=env, stderr=file, stdout=file)
    try:
        while (passed := time.monotonic() - started) < seconds:
            if process.poll() is not None:
                last = said.read_text(encoding="utf-8", errors="replace").splitlines()[-1:]
                raise SystemExit(f"{' '.join(map(str, command))}: {' '.join(last)}")
            samples.append((passed / 60, sum(map(size_of, tree(process.pid)))))
            time.sleep(_EVERY_S)
    finally:
        process.terminate()
        process.wait()
    return samples


def tree(pid):
    """List a process and all that it started."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def size_of(process):
    """Give the MiB that a process holds, its share of what it shares with others.

    Without the pages of files, such as libraries: its share of those goes by who else runs torch.
    """
    try:
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:  # it has ended
        return 0
    sizes = {name: int(rest.split()[0]) for name, _, rest in (x.partition(":") for x in lines[1:])}
    return (sizes["Pss_Anon"] + sizes["Pss_Shmem"]) / 1024


if __name__ == "__main__":
    main()
