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
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.params import PATH
from pipeline.strict import Name, ParamsError, parse
from pipeline.whole_file import whole_file

METRICS = Path("results/metrics.json")


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
        return parse(Ablation, tree, "")
    except (YAMLError, UnicodeDecodeError, ParamsError) as error:
        raise ParamsError(f"{path}: {error}") from None


def run_row(name: str, overrides: list[str]) -> dict[str, float]:
    """Run one experiment; return the top-1 accuracy of every stream and fusion.

    Raises
    ------
    RuntimeError
        If DVC, or a stage, fails.
    """
    dvc = [sys.executable, "-m", "dvc"]
    # An experiment of this name is of an earlier run of the table.
    subprocess.run([*dvc, "exp", "remove", "-q", name], capture_output=True, check=False)
    METRICS.unlink(missing_ok=True)
    settings = [word for override in overrides for word in ("-S", override)]
    done = subprocess.run([*dvc, "exp", "run", "--name", name, *settings], check=False)
    if done.returncode or not METRICS.exists():
        raise RuntimeError(f"{name}: dvc exp run failed, see above; the same command goes on")
    told = json.loads(METRICS.read_text(encoding="utf-8"))
    return {
        answer: metrics["top1"]
        for group in told.values()
        for answer, metrics in group.items()
        if metrics is not None
    }


def table(ablation: Ablation, found: dict[str, dict[int, dict[str, float]]]) -> str:
    """Draw the rows that are there in Markdown: mean, and standard deviation over the seeds."""
    head = ["", *ablation.shown, "seeds"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for title, of_seeds in found.items():
        cells = [_cell([seed[answer] for seed in of_seeds.values()]) for answer in ablation.shown]
        lines.append(f"| {' | '.join([title, *cells, str(len(of_seeds))])} |")
    return "\n".join(lines)


def _cell(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


def draw(path: Path, ablation: Ablation, found: dict[str, dict[int, dict[str, float]]]) -> None:
    """Draw the table: a dot for each seed, a line at the mean."""
    panels = len(ablation.shown)
    figure, axes = plt.subplots(
        1, panels, figsize=(3 + 3 * panels, 1.2 + 0.4 * len(found)), sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    titles = list(found)
    for panel, answer in zip(axes[0], ablation.shown, strict=True):
        for row, title in enumerate(titles):
            values = [seed[answer] for seed in found[title].values()]
            panel.plot(values, [row] * len(values), "o", color="C0", alpha=0.5)
            panel.plot([statistics.mean(values)] * 2, [row - 0.3, row + 0.3], color="C1", lw=2)
        panel.set_yticks(range(len(titles)), titles)
        panel.set_ylim(len(titles) - 0.5, -0.5)
        panel.set_title(answer)
        panel.set_xlabel("top-1 accuracy")
        panel.grid(alpha=0.3)
    figure.suptitle(ablation.title)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def run(path: Path, seeds: list[int], out: Path) -> None:
    """Run the whole table, all rows of a seed before the next; show it after each experiment.

    Raises
    ------
    ParamsError
        If the file is no table, or a row's experiment lacks an answer that is to be shown.
    RuntimeError
        If an experiment fails.
    """
    ablation, before = read(path), PATH.read_bytes()
    found: dict[str, dict[int, dict[str, float]]] = {row.title: {} for row in ablation.rows}
    out.mkdir(parents=True, exist_ok=True)
    try:
        for seed in seeds:
            for row in ablation.rows:
                PATH.write_bytes(before)
                name = re.sub(r"[^a-z0-9]+", "-", f"{path.stem} {row.title} seed {seed}".lower())
                top1 = run_row(name, [*ablation.common, *row.set, f"seed={seed}"])
                if lacking := [answer for answer in ablation.shown if answer not in top1]:
                    raise ParamsError(
                        f"{path}: shown: {lacking[0]} is no answer of the row {row.title!r}, "
                        f"expected some of {', '.join(top1)}"
                    )
                found[row.title][seed] = top1
                told = {title: of_seeds for title, of_seeds in found.items() if of_seeds}
                with whole_file(out / f"{path.stem}.csv") as file:
                    _write(file, told)
                with whole_file(out / f"{path.stem}.png") as file:
                    draw(file, ablation, told)
                print(f"\n{ablation.title}\n\n{table(ablation, told)}\n", flush=True)
    finally:
        PATH.write_bytes(before)
    print(f"{out / path.stem}.csv and .png have it too; dvc exp show has the experiments")


def _write(path: Path, found: dict[str, dict[int, dict[str, float]]]) -> None:
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
    # So that params.yaml is put back when this is told to end, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ablation: stopped"))
    try:
        run(args.table, args.seeds, args.out)
    except (RuntimeError, ValueError, OSError) as error:
        raise SystemExit(f"ablation: {error}") from None


if __name__ == "__main__":
    main()
