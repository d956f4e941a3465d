"""Training curves: a CSV with a row an epoch."""

import csv
from pathlib import Path

from pipeline.whole_file import whole_file

CURVE = ("epoch", "lr", "train_loss", "train_top1", "val_loss", "val_top1")


def write_curve(path: Path, rows: list[dict]) -> None:
    """Write one row an epoch, all or nothing; what was not measured stays empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as scratch, scratch.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, CURVE, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if v is not None else "" for k, v in row.items()})


def read_curve(path: Path) -> list[dict[str, str]]:
    """Read the rows that :func:`write_curve` wrote, as text.

    Raises
    ------
    ValueError
        If a column is missing or a value is no number.
    """
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        try:
            rows = list(reader)
            if missing := [name for name in CURVE if name not in (reader.fieldnames or ())]:
                raise ValueError(f"no column {missing[0]}")
            for row in rows:
                int(row["epoch"])
                for name in CURVE[1:]:
                    if row[name] != "":
                        float(row[name])
        except (csv.Error, ValueError, TypeError) as error:
            raise ValueError(
                f"{path}: got {error}, expected a training curve with the columns "
                f"{', '.join(CURVE)}"
            ) from None
    return rows
