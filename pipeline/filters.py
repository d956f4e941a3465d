"""Draw the first filters of a trained network (Two-Stream, figure 4).

Of a temporal network, each column is a filter and each row an input channel: x1, y1, x2, y2, ... of
its L fields. Of a spatial network, each tile is a filter in its colours; over L differences of
frames, each column is a filter and each row a difference. A filter is shown from its largest weight
of any channel, white, over 0, mid grey, to the negative of that, black: so what it does from field
to field can be compared, and each can be seen.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch

from models.bn_inception import BNInception
from pipeline.learning.weights import read_weights

_SIDE, _RGB_SIDE = 21, 42  # px of a tile, about
_GAP, _GAP_COLOUR = 3, (190, 215, 255)  # px between tiles, in a colour that grey weights lack
_RGB_COLUMNS = 16
_LEFT, _BELOW, _RIGHT, _ABOVE = 60, 50, 20, 40  # px around the tiles
_DPI = 100


def first_filters(state: dict[str, torch.Tensor]) -> np.ndarray | None:
    """Find the filters of a network's first convolution.

    It is the first tensor of four dimensions, because networks list their layers as they use them.

    Returns
    -------
    ndarray of shape (filters, channels, h, w), float32
        Three channels are R, G, B. None if there is no convolution.
    """
    for key, value in state.items():
        if torch.is_tensor(value) and value.ndim == 4:
            filters = value.float().numpy()
            in_bgr = key == f"{BNInception.first_conv}.weight" and filters.shape[1] == 3
            return filters[:, ::-1] if in_bgr else filters
    return None


def tiles(filters: np.ndarray, *, colours: bool) -> np.ndarray:
    """Turn filters (O, C, h, w) into tiles (rows, columns, h, w, 3) uint8.

    With ``colours``, each three channels are R, G and B. A weight v of a filter whose largest is m
    becomes 127.5 + 127.5 v/m, rounded half to even.
    """
    largest = np.abs(filters).max((1, 2, 3), keepdims=True)
    shares = filters / np.where(largest > 0, largest, 1)
    codes = np.rint(127.5 + 127.5 * shares).astype(np.uint8)
    count, channels, height, width = codes.shape
    if not colours:
        return codes.swapaxes(0, 1)[..., None].repeat(3, 4)
    if channels > 3:
        return codes.reshape(count, -1, 3, height, width).transpose(1, 0, 3, 4, 2)
    columns = min(_RGB_COLUMNS, count)
    rows = -(-count // columns)
    grid = np.full((rows * columns, height, width, 3), 255, np.uint8)
    grid[:count] = codes.transpose(0, 2, 3, 1)
    return grid.reshape(rows, columns, height, width, 3)


def mosaic(grid: np.ndarray, side: int) -> np.ndarray:
    """Lay tiles (rows, columns, h, w, 3) out with gaps, each enlarged to some ``side`` pixels.

    A weight becomes a square of whole pixels. Returns (H, W, 3) uint8.
    """
    times = max(1, round(side / grid.shape[2]))
    grid = grid.repeat(times, 2).repeat(times, 3)
    rows, columns, height, width, _ = grid.shape
    spaced = np.empty((rows, columns, height + _GAP, width + _GAP, 3), np.uint8)
    spaced[...] = _GAP_COLOUR
    spaced[:, :, :height, :width] = grid
    spaced = spaced.swapaxes(1, 2).reshape(rows * (height + _GAP), columns * (width + _GAP), 3)
    return spaced[:-_GAP, :-_GAP]


def draw(filters: np.ndarray, out: Path, title: str, *, colours: bool) -> None:
    """Draw filters (O, C, h, w) with their axes into a PNG file."""
    count, channels = filters.shape[:2]
    grid = tiles(filters, colours=colours)
    rows, columns = grid.shape[:2]
    picture = mosaic(grid, _RGB_SIDE if channels == 3 else _SIDE)
    high, wide = picture.shape[:2]
    height, width = high + _BELOW + _ABOVE, max(wide, 620) + _LEFT + _RIGHT
    figure = plt.figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    figure.figimage(picture, _LEFT, _BELOW)  # pixel by pixel: tiles keep their codes
    axes = figure.add_axes((_LEFT / width, _BELOW / height, wide / width, high / height))
    axes.set(facecolor="none", frame_on=False, xlim=(0, columns), ylim=(rows, 0))
    axes.tick_params(length=0, labelsize=7)
    axes.set_xticks(np.arange(columns) + 0.5, range(1, columns + 1))
    if channels == 3:
        labels = [f"{row * columns + 1}-{min((row + 1) * columns, count)}" for row in range(rows)]
        axes.set(xlabel="filter of the row", ylabel="filters")
    else:
        labels = [str(row + 1) if colours else f"{'xy'[row % 2]}{row // 2 + 1}"
                  for row in range(rows)]  # fmt: skip
        axes.set(xlabel="filter", ylabel="difference" if colours else "component and field")
    axes.set_yticks(np.arange(rows) + 0.5, labels)
    figure.text(_LEFT / width, 1 - 0.6 * _ABOVE / height, title, fontsize=9)
    # matplotlib writes its version into a picture; without it the bytes are those of the picture.
    figure.savefig(out, dpi=_DPI, metadata={"Software": None})
    plt.close(figure)


def run(weights: Path, out: Path) -> None:
    """Draw the first filters of the network in ``weights``.

    Raises
    ------
    ValueError
        If it isn't a file that the stage train wrote, or ``out`` isn't called a PNG file.
    """
    if out.suffix.lower() != ".png":
        raise ValueError(f"{out}: got another ending, expected .png")
    kept = read_weights(weights)
    filters = first_filters(kept.state)
    if filters is None:
        raise ValueError(f"{weights}: got no convolution, expected a network's weights")
    count, channels, height, width = filters.shape
    # An ST-ResNet's first filters are those over frames, whatever its motion network sees.
    colours = channels == 3 or kept.about.get("source") == "frames"
    if channels % (3 if colours else 2):
        raise ValueError(
            f"{weights}: got first filters over {channels} channels, expected 3 of RGB or of each "
            "difference, or x and y of each field"
        )
    if not np.isfinite(filters).all():
        raise ValueError(f"{weights}: got first filters that are not finite")
    over = f"{channels // 3} differences" if colours else f"{channels // 2} fields"
    over = "R, G, B" if channels == 3 else over
    out.parent.mkdir(parents=True, exist_ok=True)
    title = f"{weights.name}: {count} filters of {width}x{height} over {over}"
    draw(filters, out, f"{title}; 0 is grey, each filter is scaled by its largest weight",
         colours=colours)  # fmt: skip
    print(f"filters: {count} filters over {over} in {out}")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("weights", type=Path, help="what the stage train wrote for a stream")
    parser.add_argument("out", type=Path, help="PNG file to draw into")
    args = parser.parse_args()
    try:
        run(args.weights, args.out)
    except (ValueError, OSError) as error:
        raise SystemExit(f"filters: {error}") from None


if __name__ == "__main__":
    main()
