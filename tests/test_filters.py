"""filters: the first filters of trained networks as a picture."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from models import NORMALISATION, build
from pipeline import filters

GAP = np.array([190, 215, 255])

ANY = {"heads": {"d": ["a", "b"]}, "about": {}}


def make(name, channels, crop=48):
    return build(name, classes=2, channels=channels, crop=crop, dropout=0.0, weights="none")


def saved(path, weight=None, *, name="resnet18", channels=3, **about):
    """Keep a network as the stage train does, with known first filters."""
    network = make(name, channels)
    if weight is not None:
        network.get_submodule(network.first_conv).weight.data = torch.as_tensor(weight)
    torch.save(ANY | {"state_dict": network.state_dict(), "about": about}, path)
    return path


def drawn(path):
    """Read a picture back: (H, W, 3) R, G, B."""
    return cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)


def found_tiles(picture):
    """Find tiles by the gaps between them: their first rows and first columns, and their side."""
    is_gap = (picture == GAP).all(2)
    top, bottom = np.flatnonzero(is_gap.any(1))[[0, -1]]
    left, right = np.flatnonzero(is_gap.any(0))[[0, -1]]
    inside = is_gap[top : bottom + 1, left : right + 1]
    firsts = []
    for lines in (inside.all(1), inside.all(0)):
        starts = [0, *(np.flatnonzero(lines[:-1] & ~lines[1:]) + 1)]
        firsts.append(starts)
    side = int(np.argmax(inside.all(1)))
    return [top + r for r in firsts[0]], [left + c for c in firsts[1]], side


def read_back(path, size=7):
    """Read each tile's weights as codes: (rows, columns, size, size, 3), checked to be squares."""
    picture = drawn(path)
    tops, lefts, side = found_tiles(picture)
    times = side // size
    assert side == size * times
    grid = np.empty((len(tops), len(lefts), size, size, 3), np.uint8)
    for i, top in enumerate(tops):
        for j, left in enumerate(lefts):
            tile = picture[top : top + side, left : left + side]
            tile = tile.reshape(size, times, size, times, 3)
            assert (tile == tile[:, :1, :, :1]).all()
            grid[i, j] = tile[:, 0, :, 0]
    return grid


def test_temporal_filters_stand_where_figure_4_has_them(tmp_path):
    """Columns are filters, rows x1, y1, x2, ...; black is -1, 128 is 0, white is the largest."""
    weight = np.zeros((64, 6, 7, 7), np.float32)
    weight[0, 0, 0, 0], weight[0, 1, 6, 6] = 2.0, -2.0  # x1 and y1 of the first filter
    weight[5, 4, 3, 2], weight[5, 5, 0, 1] = -0.5, 0.25  # x3 and y3 of the sixth
    weight[63, 3] = 7.0  # y2 of the last
    path = saved(tmp_path / "temporal.pt", weight, channels=6)
    filters.run(path, tmp_path / "new" / "filters.png")
    grid = read_back(tmp_path / "new" / "filters.png")
    assert grid.shape == (6, 64, 7, 7, 3)
    expected = np.full((6, 64, 7, 7), 128, np.uint8)
    expected[0, 0, 0, 0], expected[1, 0, 6, 6] = 255, 0
    expected[4, 5, 3, 2], expected[5, 5, 0, 1] = 0, 191  # 127.5 + 127.5 / 2 = 191.25
    expected[3, 63] = 255
    for colour in range(3):
        assert np.array_equal(grid[..., colour], expected)


@pytest.mark.parametrize("name", ["resnet18", "bn_inception"])
def test_spatial_filters_have_their_colours(tmp_path, name):
    """BN-Inception keeps its filters as B, G, R, and answers R, G, B input like the others."""
    weight = np.zeros((64, 3, 7, 7), np.float32)
    red, blue = (0, 2) if name == "resnet18" else (2, 0)
    weight[0, red, 1, 2] = 1.0
    weight[17, blue, 4, 5], weight[17, 1, 4, 5] = 0.5, -1.0
    path = saved(tmp_path / "spatial.pt", weight, name=name)
    filters.run(path, tmp_path / "filters.png")
    grid = read_back(tmp_path / "filters.png")
    assert grid.shape == (4, 16, 7, 7, 3)
    expected = np.full((64, 7, 7, 3), 128, np.uint8)
    expected[0, 1, 2] = (255, 128, 128)
    expected[17, 4, 5] = (128, 0, 191)
    assert np.array_equal(grid.reshape(64, 7, 7, 3), expected)


@pytest.mark.parametrize("length", [4, 5])
def test_filters_over_differences_are_a_row_a_difference_in_colours(tmp_path, length):
    weight = np.zeros((64, 3 * length, 7, 7), np.float32)
    weight[2, 3 * 1 + 2, 1, 2] = 1.0  # blue of the second difference, of the third filter
    weight[63, 3 * 3, 4, 5] = -1.0  # red of the fourth, of the last
    path = saved(tmp_path / "w.pt", weight, channels=3 * length, source="frames")
    filters.run(path, tmp_path / "filters.png")
    grid = read_back(tmp_path / "filters.png")
    expected = np.full((length, 64, 7, 7, 3), 128, np.uint8)
    expected[1, 2, 1, 2, 2], expected[3, 63, 4, 5, 0] = 255, 0
    assert np.array_equal(grid, expected)


def test_random_filters_follow_the_formula(tmp_path):
    weight = np.random.default_rng(0).normal(size=(64, 20, 7, 7)).astype(np.float32)
    filters.run(saved(tmp_path / "w.pt", weight, channels=20), tmp_path / "filters.png")
    grid = read_back(tmp_path / "filters.png")
    for number in range(64):
        scaled = weight[number].astype(np.float64) / np.abs(weight[number]).max()
        shown = (grid[:, number, :, :, 0].astype(float) - 127.5) / 127.5
        assert np.abs(shown - scaled).max() <= 0.5 / 127.5 + 1e-6


def test_axes_are_labelled(tmp_path):
    """There is ink left of each row and below each column, and a title above."""
    filters.run(saved(tmp_path / "w.pt", channels=4), tmp_path / "filters.png")
    picture = drawn(tmp_path / "filters.png")
    tops, lefts, side = found_tiles(picture)
    dark = picture.max(2) < 100
    for top in tops:
        assert dark[top : top + side, : lefts[0]].any()
    for left in lefts:
        assert dark[tops[-1] + side :, left : left + side].any()
    assert dark[: tops[0]].any()


@pytest.mark.parametrize("channels", [3, 10])
@pytest.mark.parametrize("name", NORMALISATION)
def test_the_first_convolution_of_every_network_is_found(name, channels):
    with torch.device("meta"):
        network = make(name, channels)
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    state = {key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}
    first = f"{network.first_conv}.weight"
    state[first] = torch.ones(shapes[first])
    found = filters.first_filters(state)
    assert found.shape == shapes[first] and (found == 1).all()


@pytest.mark.parametrize(
    ("content", "out", "said"),
    [
        (None, "f.png", "w.pt: no such file, expected weights written by the stage train"),
        ("hello", "f.png", "w.pt: not a file of tensors"),
        (
            {"conv1.weight": torch.zeros(4, 3, 3, 3)},
            "f.png",
            "w.pt: no heads, state_dict",
        ),
        (
            {**ANY, "state_dict": []},
            "f.png",
            "w.pt: no heads, state_dict",
        ),
        ({**ANY, "state_dict": {}}, "f.png", "w.pt: got no convolution"),
        (
            {**ANY, "state_dict": {"c.weight": torch.zeros(4, 5, 3, 3)}},
            "f.png",
            "w.pt: got first filters over 5 channels, expected 3",
        ),
        (
            {
                **ANY,
                "state_dict": {"c.weight": torch.full((4, 2, 3, 3), torch.nan)},
            },
            "f.png",
            "w.pt: got first filters that are not finite",
        ),
        (
            {**ANY, "state_dict": {}},
            "f.jpg",
            "f.jpg: got another ending, expected .png",
        ),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, content, out, said):
    path = tmp_path / "w.pt"
    if isinstance(content, str):
        path.write_text(content)
    elif content is not None:
        torch.save(content, path)
    monkeypatch.setattr(sys, "argv", ["filters", str(path), str(tmp_path / out)])
    with pytest.raises(SystemExit) as caught:
        filters.main()
    line = str(caught.value)
    assert line.startswith("filters: ") and said in line and "\n" not in line
    assert not (tmp_path / out).exists()


def test_command_twice_gives_the_same_bytes(tmp_path):
    saved(tmp_path / "w.pt", channels=10)
    for name in ("a.png", "b.png"):
        done = subprocess.run(
            [sys.executable, "-m", "pipeline.filters", tmp_path / "w.pt", tmp_path / name],
            cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout == f"filters: 64 filters over 5 fields in {tmp_path / name}\n"
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
