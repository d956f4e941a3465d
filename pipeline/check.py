"""Stage ``check``: refuses what would otherwise be found hours later.

A mistake in a part of ``params.yaml`` that no other stage has to read again, and folders and files
of weights that aren't there: DVC would name the first without their key, and the stage ``train``
the second once all flow is computed. It also says which streams enlarge their frames.
"""

import argparse
from pathlib import Path

from models.pretrained import file_of
from pipeline import project
from pipeline.params import Params, ParamsError, load


def check_paths(params: Params) -> None:
    """Refuse what isn't there: folders of datasets, but for the rendered one, and weights.

    Raises
    ------
    ParamsError
        With the path of the key, and what was got.
    """
    others = {f"auxiliary_datasets.{name}": one for name, one in params.auxiliary_datasets.items()}
    for at, one in {"dataset": params.dataset, **others}.items():
        for key in ("videos", "lists"):
            folder = Path(getattr(one, key))
            rendered = bool(params.sample) and folder.is_relative_to("data/sample")
            if not rendered and not folder.exists():
                raise ParamsError(
                    f"{at}.{key}: got {folder}, which is not there; expected a folder"
                )
    for name, stream in params.streams.items():
        try:
            file_of(stream.network.name, stream.network.weights, project.root())
        except ValueError as error:
            raise ParamsError(
                f"streams.{name}.network.weights: {error}; expected a file (data/README.md says "
                "where there are some), an address or none"
            ) from None


def note_enlarged(params: Params) -> None:
    """Say which crops are larger than the frames that they are cut from: that costs time alone."""
    for name, stream in params.streams.items():
        if stream.input.crop > params.decode.short_side:
            print(
                f"check: streams.{name}.input.crop: {stream.input.crop} px of frames of "
                f"{params.decode.short_side} (decode.short_side): pictures are enlarged"
            )


def main() -> None:
    """Run the stage from the command line."""
    parser = argparse.ArgumentParser(
        description="Check a params file, whole, and that what it names is there."
    )
    parser.add_argument("path", type=Path, help="params.yaml")
    args = parser.parse_args()
    try:
        params = load(args.path)
    except ParamsError as error:
        raise SystemExit(f"check: {error}") from None
    try:
        check_paths(params)
        note_enlarged(params)
    except ParamsError as error:
        raise SystemExit(f"check: {args.path}: {error}") from None


if __name__ == "__main__":
    main()
