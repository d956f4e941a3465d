"""Where the project's own files are."""

from pathlib import Path


def root() -> Path:
    """Find the project's root, also from an experiment that ``dvc queue`` runs.

    Those run in ``<root>/.dvc/tmp/exps/<name>``, a copy of what git has, which DVC removes
    afterwards.
    """
    above, in_queue, _ = str(Path.cwd()).partition("/.dvc/tmp/exps/")
    return Path(above) if in_queue else Path()
