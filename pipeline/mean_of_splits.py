"""Print the mean of the results over a dataset's three official splits.

A dataset with three official splits is reported as the mean over them. Run one experiment a split
first (``dvc exp run -S dataset.split=2``); this command then reads the metrics of those experiments
of the current commit that differ from ``params.yaml`` in ``dataset.split`` alone, the newest of
each split.
"""

import argparse
import copy
import json
import subprocess
import sys
from collections.abc import Iterable

METRICS = {"top1": "top-1", "mean_class_accuracy": "mean class accuracy"}
SPLITS = (1, 2, 3)


class SplitsError(ValueError):
    """Experiments that have no mean over the splits; the message says why in one line."""


def shown() -> list[dict]:
    """Ask DVC for the workspace, the current commit and its experiments.

    Raises
    ------
    SplitsError
        If DVC can't tell.
    """
    command = [sys.executable, "-m", "dvc", "exp", "show", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise SplitsError(f"dvc exp show: {last}")
    return json.loads(done.stdout)


def choose(revisions: list[dict]) -> dict[int, dict]:
    """Find the newest experiment of each split.

    Parameters
    ----------
    revisions : list of dict
        What ``dvc exp show --json`` prints: the workspace, then commits with their experiments.

    Returns
    -------
    dict
        The content of ``metrics.json`` by split.

    Raises
    ------
    SplitsError
        If an experiment is lacking.
    """
    workspace = _only(revisions[0].get("data"), "params")
    if not workspace or "split" not in workspace.get("dataset", {}):
        raise SplitsError("params.yaml: got no dataset.split, expected the params of a dataset")
    if (kind := workspace["dataset"].get("format")) not in ("ucf101", "hmdb51"):
        raise SplitsError(
            f"dataset.format: got {kind}, which has no official splits: dataset.split isn't used"
        )
    wanted, newest = _but_split(workspace), {}
    for told in _experiments(revisions):
        params, metrics = _only(told, "params"), _only(told, "metrics")
        if params and metrics and _but_split(params) == wanted:
            newest[params["dataset"]["split"]] = (told["timestamp"] or "", metrics)
    return _complete(newest)


def _complete(newest: dict[int, tuple[str, dict]]) -> dict[int, dict]:
    if lacking := [split for split in SPLITS if split not in newest]:
        raise SplitsError(
            f"got experiments of the splits {', '.join(map(str, sorted(newest))) or 'none'} with "
            f"the values of params.yaml, expected one each of 1, 2, 3: "
            + "; ".join(f"dvc exp run -S dataset.split={split}" for split in lacking)
        )
    return {split: newest[split][1] for split in SPLITS}


def _experiments(revisions: list[dict]) -> Iterable[dict]:
    """List what is known of each experiment that has ended, the oldest first."""
    ended = [
        entry["revs"][0]["data"]
        for revision in revisions
        for entry in revision.get("experiments") or []
        if entry["revs"] and entry["revs"][0].get("data")
    ]
    return sorted(ended, key=lambda told: told["timestamp"] or "")


def _only(told: dict | None, kind: str) -> dict:
    """Give the content of the one file of params or of metrics."""
    files = list(((told or {}).get(kind) or {}).values())
    return files[0].get("data") or {} if len(files) == 1 else {}


def _but_split(params: dict) -> dict:
    params = copy.deepcopy(params)
    params.get("dataset", {}).pop("split", None)
    return params


def table(metrics: dict[int, dict], key: str) -> str:
    """Draw one metric as a table in Markdown: streams and fusions by split, and the mean."""
    head = ["", *(f"split {split}" for split in metrics), "mean"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    first = next(iter(metrics.values()))
    for group in ("streams", "fusion"):
        for name in first[group]:
            if not all(name in of_split[group] for of_split in metrics.values()):
                continue  # the SVM, where a split has no training clips
            values = [of_split[group][name][key] for of_split in metrics.values()]
            values.append(sum(values) / len(values))
            lines.append(f"| {' | '.join([name, *(f'{value:.4f}' for value in values)])} |")
    return "\n".join(lines)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.parse_args()
    try:
        metrics = choose(shown())
    except SplitsError as error:
        raise SystemExit(f"mean_of_splits: {error}") from None
    for key, title in METRICS.items():
        print(f"{title}\n\n{table(metrics, key)}\n")


if __name__ == "__main__":
    main()
