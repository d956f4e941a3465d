"""A picture of an answer: frames, their flow in colours, and the likeliest classes."""

from pathlib import Path
from typing import NamedTuple

import cv2
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from pipeline.video import store

_SHOWN = 4  # frames


class Answer(NamedTuple):
    """One video's answer.

    Attributes
    ----------
    path : Path
    picture : Path
        Where it is drawn.
    classes : tuple of str
    streams : dict of ndarray of shape (classes,), float64
        Each stream's probabilities.
    average : ndarray of shape (classes,), float64
        Their mean.
    """

    path: Path
    picture: Path
    classes: tuple[str, ...]
    streams: dict[str, np.ndarray]
    average: np.ndarray


def likeliest(probs: np.ndarray, top: int) -> list[int]:
    """List the classes of the largest probabilities, the largest first."""
    return np.argsort(-probs, kind="stable")[:top].tolist()


def draw(file: Path, answer: Answer, data: Path, video_id: str, *, bound: float, top: int) -> None:
    """Draw some frames of a video, the flow at each of them if there is some, and the answer.

    Parameters
    ----------
    file : Path
        PNG file to write.
    answer : Answer
    data : Path
        Holds the folders ``frames`` and, where flow was computed, ``flow``.
    video_id : str
    bound : float
        The flow's, px.
    top : int
        How many classes to draw.
    """
    with store.StoredVideo(data / "frames", video_id, store.FRAMES) as video:
        # The last frame has no field.
        places = np.linspace(0, len(video) - 2, _SHOWN).round().astype(int)
        rows = [[video.read(int(place)) for place in places]]
    if (data / "flow").is_dir():
        with store.StoredVideo(data / "flow", video_id, store.FLOW) as video:
            fields = [store.dequantise(video.read(int(place)), bound) for place in places]
        # At least 1 px: no motion is half a code off zero, and would else fill the picture.
        most = max(1.0, *(float(np.percentile(np.hypot(*field), 99)) for field in fields))
        rows.append([in_colours(field, most) for field in fields])
    height, width = rows[0][0].shape[:2]
    high = 2.2 * height / width * len(rows)
    figure = plt.figure(figsize=(2.2 * _SHOWN + 4.5, max(high, 0.35 * top + 0.9)),
                        layout="constrained")  # fmt: skip
    grid = figure.add_gridspec(len(rows), _SHOWN + 1, width_ratios=[2.2] * _SHOWN + [4.5])
    for number, row in enumerate(rows):
        for column, (place, picture) in enumerate(zip(places, row, strict=True)):
            axes = figure.add_subplot(grid[number, column])
            axes.imshow(picture)
            axes.set_axis_off()
            if not number:
                axes.set_title(f"frame {place + 1}", fontsize=8)
    _bars(figure.add_subplot(grid[:, -1]), answer, top)
    figure.suptitle(f"{answer.path.name}: {answer.classes[likeliest(answer.average, 1)[0]]}",
                    parse_math=False)  # fmt: skip
    # matplotlib writes its version into a picture; without it the bytes are those of the picture.
    figure.savefig(file, dpi=110, metadata={"Software": None})
    plt.close(figure)


def in_colours(field: np.ndarray, most: float) -> np.ndarray:
    """Show a field (2, H, W) px: its direction as the hue, its length as the brightness.

    ``most`` px and more are brightest. Returns (H, W, 3) uint8 RGB.
    """
    x, y = field.astype(np.float32)
    length, degrees = cv2.cartToPolar(x, y, angleInDegrees=True)
    value = np.clip(length / most, 0, 1)
    return (255 * cv2.cvtColor(cv2.merge([degrees, np.ones_like(value), value]),
                               cv2.COLOR_HSV2RGB)).round().astype(np.uint8)  # fmt: skip


def _bars(axes: plt.Axes, answer: Answer, top: int) -> None:
    """Draw a bar for each class, and a mark on it for each stream."""
    shown = likeliest(answer.average, top)
    places = np.arange(len(shown))
    axes.barh(places, answer.average[shown], color="0.8", label="average")
    for number, (name, probs) in enumerate(answer.streams.items()):
        axes.plot(probs[shown], places, "o", color=f"C{number}", markersize=4, label=name)
    axes.set_yticks(places, [answer.classes[label] for label in shown], fontsize=8,
                    parse_math=False)  # fmt: skip
    axes.invert_yaxis()
    axes.set_xlim(0, 1.02)
    axes.set_xlabel("probability", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.legend(fontsize=7)
