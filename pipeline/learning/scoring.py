"""A trained network's answers on the views of clips, and their score file."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from models import fold_bn
from pipeline import SUBSETS
from pipeline.learning import augment, devices, volumes
from pipeline.learning.scores import Scores, write_scores
from pipeline.progress import progress
from pipeline.videos import Video


def score_views(
    network: nn.Module,
    clips: Iterable[tuple[torch.Tensor, torch.Tensor, int]],
    *,
    crop: int,
    crops: int,
    signed: bool,
    std: tuple[float, ...],
    classes: int | None = None,
    batch: int = 64,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Average the logits and the softmax over all views of each clip: its snippets times crops.

    Parameters
    ----------
    network : nn.Module
        Changed for good: its batch normalisation is folded into the convolutions.
    clips : iterable of (codes (S, H, W, C) uint8 or int16, offsets (S, C) float32, label)
        Snippets: see :class:`pipeline.learning.dataset.TestingClips`.
    crop : int
        Height and width that the network sees, px.
    crops : int
        How many of a snippet: see :func:`pipeline.learning.augment.crop_places`.
    signed : bool
        Whether every other channel is an x, which changes its sign in a mirrored view.
    std : tuple of float
        What to divide each channel by, in codes.
    classes : int, optional
        Of the first head, where there are more.
    batch : int
        Views at a time, but at least one snippet's; bounds memory, the result doesn't depend on it
        beyond rounding.

    Yields
    ------
    logits, probs : ndarray of shape (classes,), float32
    """
    on = devices.place().device
    network = devices.to_device(fold_bn(network.eval()), on)
    for codes, offsets, _ in clips:
        with torch.inference_mode():
            codes, offsets = (x.to(on, non_blocking=True) for x in (codes, offsets))
            places = augment.crop_places(*codes.shape[1:3], crop, crops)
            parts = -(-len(codes) // max(batch // len(places), 1))
            answers = []
            for part in zip(codes.tensor_split(parts), offsets.tensor_split(parts), strict=True):
                inputs = volumes.normalise(*part, std)
                answers.append(network(_views(inputs, places, crop, signed=signed)))
            logits = torch.cat(answers)[:, :classes].double().cpu()
            means = logits.mean(0).float().numpy(), logits.softmax(1).mean(0).float().numpy()
        yield means  # outside: a caller that stops half-way would stay in inference mode


def _views(
    inputs: torch.Tensor, places: list[tuple[int, int, bool]], crop: int, *, signed: bool
) -> torch.Tensor:
    """Cut the views of normalised snippets (N, C, H, W), place by place, in channels-last memory.

    Rows of pixels are copied to where they belong: ``torch.cat`` takes twice as long.
    """
    flips = any(flipped for *_, flipped in places)
    mirrored = volumes.mirror(inputs, signed=signed) if flips else None
    count, channels, _, width = inputs.shape
    views = inputs.new_empty((len(places), count, crop, crop, channels))
    for view, (top, left, flipped) in zip(views, places, strict=True):
        source, left = (mirrored, width - crop - left) if flipped else (inputs, left)
        view.copy_(source.permute(0, 2, 3, 1)[:, top : top + crop, left : left + crop])
    return views.flatten(0, 1).permute(0, 3, 1, 2)


def write_answers(
    out: Path,
    videos: list[Video],
    classes: list[str],
    answer: Callable[[Sequence[int]], Iterator[tuple[np.ndarray, np.ndarray]]],
    *,
    name: str,
) -> None:
    """Score clips, shared out over the processes there are, and write one score file.

    Parameters
    ----------
    out : Path
        The score file (see :mod:`pipeline.learning.scores`).
    videos : list of Video
    classes : list of str
    answer : callable
        ``answer(share)`` yields logits and probs (classes,) of each video in ``share``, which are
        numbers of ``videos``.
    name : str
        The stream.

    Raises
    ------
    ValueError
        If a video's scores are no numbers; names the first.
    """
    started, here = time.monotonic(), devices.place()
    share = range(here.rank, len(videos), here.world)
    bar = progress(answer(share), desc=f"score {name}", total=len(share), unit="video",
                   disable=here.rank > 0)  # fmt: skip
    answers = devices.gather(list(bar))
    if here.rank > 0:
        return
    logits, probs = map(np.stack, zip(*answers, strict=True))
    good = np.isfinite(logits).all(1) & np.isfinite(probs).all(1)
    if not good.all():
        raise ValueError(
            f"{name}: got scores of {videos[good.argmin()].video_id} that are no "
            f"numbers, and of {(~good).sum() - 1} more videos: the weights are bad"
        )
    scores = Scores(
        stream=name,
        classes=tuple(classes),
        video_id=np.array([video.video_id for video in videos]),
        label=np.array([video.label for video in videos]),
        subset=np.array([video.subset for video in videos]),
        logits=logits,
        probs=probs,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_scores(out, scores)
    print(f"score {name}: {len(videos)} videos in {time.monotonic() - started:.1f} s")
    for subset in SUBSETS:
        of = scores.subset == subset
        if of.any():
            right = (probs[of].argmax(1) == scores.label[of]).mean()
            print(f"{name}: top-1 {right:.4f} on {of.sum()} {subset} clips")
