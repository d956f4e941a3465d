"""Run a table of experiments, several seeds each, and print it as papers do.

A file like ``ablations/two_stream_volumes.yaml`` names the rows and what each changes. Each row and
seed is an experiment of DVC (``dvc exp show`` has them all), run in the working folder, so what has
been computed before, for another row or in an earlier run of this command, is not computed again: a
table that was stopped goes on where it was. ``params.yaml`` is put back at the end.
"""

import argparse
import csv
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from dvc.exceptions import DvcException
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.fuse import METHODS
from pipeline.params import PATH, load
from pipeline.strict import Name, ParamsError, parse
from pipeline.whole_file import whole_file

METRICS = Path("results/metrics.json")
Found = dict[str, dict[int, dict[str, float | None]]]  # by row, seed and answer


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the table: what it is called, and what it changes, as ``dvc exp run -S`` does."""

    title: str
    set: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """A table of the test accuracy of the answers ``shown``; ``common`` is what all rows change."""

    title: str
    shown: tuple[Name, ...]
    common: tuple[str, ...]
    rows: tuple[Row, ...]


def read(path: Path) -> Ablation:
    """Read the definition of a table.

    Raises
    ------
    ParamsError
        If it is none; names the file and the key.
    """
    try:
        tree = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        ablation = parse(Ablation, tree, "")
    except (YAMLError, UnicodeDecodeError, ParamsError) as error:
        raise ParamsError(f"{path}: {error}") from None
    names = [_slug(row.title) for row in ablation.rows]
    for name, row in zip(names, ablation.rows, strict=True):
        if not name or names.count(name) > 1:
            raise ParamsError(
                f"{path}: rows: got the title {row.title!r}, expected one whose letters and digits "
                "no other has"
            )
    return ablation


def check(path: Path, ablation: Ablation, base: bytes) -> None:
    """Refuse a table whose last row would fail, before its first row is run.

    Raises
    ------
    ParamsError
        If a row's values don't fit the params, or an answer to be shown isn't among its own.
    """
    for row in ablation.rows:
        with tempfile.TemporaryDirectory() as scratch:
            changed = Path(scratch, PATH.name)
            changed.write_bytes(base)
            try:
                apply_overrides(changed, [*ablation.common, *row.set])
                fused = load(changed).fuse
            except (DvcException, ParamsError) as error:
                why = str(error.__cause__ or error)  # DVC's own says less
                why = why.removeprefix(f"{changed}: ")
                why = why.partition(" To append to your config")[0]  # no key can be added here
                raise ParamsError(f"{path}: {row.title}: {why}") from None
        answers = [*fused.streams, *(m for m in METHODS if m != "svm" or fused.svm)]
        if lacking := [answer for answer in ablation.shown if answer not in answers]:
            raise ParamsError(
                f"{path}: shown: got {lacking[0]}, expected some of the row {row.title!r}: "
                f"{', '.join(answers)}"
            )


def _slug(text: str) -> str:
    """Keep the letters and digits of a text, for the name of an experiment."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def run_row(name: str, overrides: list[str]) -> dict[str, float | None]:
    """Run one experiment; return the top-1 accuracy of every stream and fusion.

    Raises
    ------
    RuntimeError
        If DVC, or a stage, fails.
    """
    dvc = [sys.executable, "-m", "dvc"]
    # An experiment of this name is of an earlier run of the table.
    subprocess.run([*dvc, "exp", "remove", "-q", name], capture_output=True, check=False)
    settings = [word for override in overrides for word in ("-S", override)]
    if _wait(subprocess.Popen([*dvc, "exp", "run", "--name", name, *settings])):
        raise RuntimeError(f"{name}: dvc exp run failed, see above; the same command goes on")
    told = json.loads(METRICS.read_text(encoding="utf-8"))
    return {
        answer: metrics and metrics["top1"]
        for group in told.values()
        for answer, metrics in group.items()
    }


def _wait(dvc: subprocess.Popen) -> int:
    """Wait for DVC; after Ctrl-C, which it and its stage have got as well, until it has ended."""
    try:
        return dvc.wait()
    except KeyboardInterrupt:
        with suppress(KeyboardInterrupt):
            dvc.wait()
        raise
    except SystemExit:  # this process alone was told to end
        dvc.terminate()
        dvc.wait()
        raise


def table(ablation: Ablation, found: Found) -> str:
    """Draw the rows that are there in Markdown: mean, and standard deviation over the seeds."""
    head = ["", *ablation.shown, "seeds"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for title, of_seeds in found.items():
        cells = [_cell(_values(of_seeds, answer)) for answer in ablation.shown]
        lines.append(f"| {' | '.join([title, *cells, str(len(of_seeds))])} |")
    return "\n".join(lines)


def _values(of_seeds: dict[int, dict[str, float | None]], answer: str) -> list[float]:
    """List one answer's accuracies; an SVM that could not be fitted has none."""
    values = [seed.get(answer) for seed in of_seeds.values()]
    return [value for value in values if value is not None]


def _cell(values: list[float]) -> str:
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


def draw(path: Path, ablation: Ablation, found: Found) -> None:
    """Draw the table: a dot for each seed, a line at the mean."""
    panels = len(ablation.shown)
    figure, axes = plt.subplots(
        1, panels, figsize=(3 + 3.4 * panels, 1.2 + 0.5 * len(found)), sharex=True, sharey=True,
        squeeze=False, layout="constrained",
    )  # fmt: skip
    titles = list(found)
    for panel, answer in zip(axes[0], ablation.shown, strict=True):
        for row, title in enumerate(titles):
            values = _values(found[title], answer)
            panel.plot(values, [row] * len(values), "o", color="C0", alpha=0.5)
            if values:
                mean = statistics.mean(values)
                panel.plot([mean] * 2, [row - 0.3, row + 0.3], color="C1", lw=2)
                panel.annotate(f"{mean:.3f}", (mean, row - 0.3), ha="center", va="bottom", size=8)
        panel.set_yticks(range(len(titles)), titles)
        panel.set_ylim(len(titles) - 0.5, -0.7)
        panel.set_title(answer)
        panel.set_xlabel("top-1 accuracy: a dot a seed, a line at their mean")
        panel.grid(alpha=0.3)
    figure.suptitle(ablation.title)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def run(path: Path, seeds: list[int], out: Path) -> None:
    """Run the whole table, all rows of a seed before the next; show it after each experiment.

    Raises
    ------
    ParamsError
        If the file is no table of these params.
    RuntimeError
        If an experiment fails.
    """
    out.mkdir(parents=True, exist_ok=True)
    ablation, found = read(path), {}
    with _params_kept(out / f"{path.stem}.params.yaml") as base:
        check(path, ablation, base)
        count, started = len(seeds) * len(ablation.rows), time.monotonic()
        print(f"{len(ablation.rows)} rows x {len(seeds)} seeds: {count} experiments", flush=True)
        for seed in seeds:
            for row in ablation.rows:
                done = sum(map(len, found.values()))
                left = (time.monotonic() - started) / max(done, 1) * (count - done)
                guess = f", some {left / 60:.0f} min left" if done else ""
                print(
                    f"\nexperiment {done + 1} of {count}: {row.title}, seed {seed}{guess}",
                    flush=True,
                )
                _put(base)
                name = f"{_slug(path.stem)}-{_slug(row.title)}-seed-{seed}"
                overrides = [*ablation.common, *row.set, f"seed={seed}"]
                found.setdefault(row.title, {})[seed] = run_row(name, overrides)
                with whole_file(out / f"{path.stem}.csv") as file:
                    _write(file, found)
                with whole_file(out / f"{path.stem}.png") as file:
                    draw(file, ablation, found)
                print(f"\n{ablation.title}\n\n{table(ablation, found)}\n", flush=True)
    print(
        f"{out / path.stem}.csv and .png have it too. data/ and results/ are the last row's: "
        f"`dvc exp apply {name}` takes over its params, too, or any other row (`dvc exp list`); "
        "`dvc repro` computes what params.yaml says"
    )


@contextmanager
def _params_kept(copy: Path) -> Iterator[bytes]:
    """Give what params.yaml holds, and put it back; where a kill prevents that, the next time."""
    if copy.exists():
        print(f"{PATH}: put back as it was before the last run, which was killed")
        _put(copy.read_bytes())
    base = PATH.read_bytes()
    with whole_file(copy) as scratch:
        scratch.write_bytes(base)
    try:
        yield base
    finally:
        _put(base)
        copy.unlink()


def _put(base: bytes) -> None:
    with whole_file(PATH) as scratch:
        scratch.write_bytes(base)


def _write(path: Path, found: Found) -> None:
    """Write a line for each row, seed and answer."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("row", "seed", "answer", "top1"))
        for title, of_seeds in found.items():
            for seed, top1 in of_seeds.items():
                writer.writerows((title, seed, *told) for told in top1.items())


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0],
        epilog="Base values are those of params.yaml, so set dataset.videos and lists there first.",
    )
    parser.add_argument("table", type=Path, help="one of ablations/*.yaml, or your own")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2],
                        help="one run of every row for each (default: 0 1 2)")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("results/ablations"),
                        help="folder for numbers and a picture (default: %(default)s)")  # fmt: skip
    args = parser.parse_args()
    # So that DVC ends in order and params.yaml is put back.
    for told in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(told, lambda *_: sys.exit("ablation: stopped"))
    try:
        run(args.table, args.seeds, args.out)
    except KeyboardInterrupt:
        raise SystemExit("ablation: stopped; the same command goes on") from None
    except (RuntimeError, ValueError, OSError) as error:
        raise SystemExit(f"ablation: {error}") from None


if __name__ == "__main__":
    main()
