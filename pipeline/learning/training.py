"""A training from its clips to its item: what every stage that trains does."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import Dataset

from pipeline.learning import checkpoints, devices
from pipeline.learning.curves import write_curve
from pipeline.learning.engine import Fit
from pipeline.learning.epochs import Draws
from pipeline.learning.loading import loader, training_batches
from pipeline.params import Engine
from pipeline.stream_params import Optimisation


def train_once(
    make: Callable[[], nn.Module],
    clips: Dataset,
    val: Dataset,
    *,
    name: str,
    labels: Sequence[int],
    params: Optimisation,
    engine: Engine,
    lr: float,
    seed: int,
    key: dict,
    weights: Path,
    curve: Path,
    write: Callable[[nn.Module, Path], None],
) -> bool:
    """Train, or take from the item store what the same training made before.

    Parameters
    ----------
    make : callable
        Builds the task (see :mod:`pipeline.learning.tasks`).
    clips : Dataset
        Takes (epoch, position, clip); its ``videos`` say which clip is which.
    val : Dataset
        The validation clips, perhaps none.
    name : str
        What progress and the item are called.
    labels : sequence of int
        Of the clips.
    params, engine, lr, seed
        As :class:`pipeline.learning.engine.Fit` takes them.
    key : dict
        JSON-able: everything that bears on the result.
    weights, curve : Path
        The stage's outs. The curve is also there while the training goes on.
    write : callable
        ``write(task, path)`` writes the trained weights.

    Returns
    -------
    bool
        Whether it was taken from the store.

    Raises
    ------
    ValueError
        If there are no validation clips for what needs them.
    """
    if (params.patience or params.keep == "best") and not len(val):
        raise ValueError(f"{name}: patience and keep best need validation clips, got none")
    here = devices.place()
    size = params.batch * params.epoch_batches or len(clips)
    draws = partial(
        Draws, labels, batch=params.batch, size=size, epochs=params.epochs, by=params.sampling,
        seed=seed, rank=here.rank, world=here.world,
    )  # fmt: skip
    with checkpoints.training(name, key, here.rank) as (item, checkpoint):
        # The first one's word: it alone has seen to it that no other run makes the item.
        reused = bool(devices.total(torch.tensor(int(here.rank == 0 and item.is_dir()))))
        if not reused:
            task = make()
            share = range(here.rank, len(val), here.world)
            all_draws = draws()
            at_once = -(-all_draws.own // params.passes)  # known to fit into memory
            rows = Fit(
                task,
                lambda first: training_batches(clips, draws(first=first), all_draws.own),
                loader(val, sampler=share, batch_size=at_once) if len(val) else None,
                steps=all_draws.steps, clips=size, lr=lr, params=params, engine=engine, seed=seed,
                label=name, checkpoint=checkpoint,
                names=lambda i: [clips.videos[clip].video_id for *_, clip in all_draws.share(i)],
                told=lambda rows: write_curve(curve, rows),
            ).run()  # fmt: skip
            if here.rank == 0:
                checkpoints.finish(item, partial(_write, task, rows, weights, curve, write),
                                   checkpoint)  # fmt: skip
        if here.rank == 0:
            checkpoints.hand_over(item, weights=weights, curve=curve)
    return reused


def _write(
    task: nn.Module,
    rows: list[dict],
    weights: Path,
    curve: Path,
    write: Callable[[nn.Module, Path], None],
    folder: Path,
) -> None:
    """Put what a training made into its item's folder."""
    write(task, folder / f"weights{weights.suffix}")
    write_curve(folder / f"curve{curve.suffix}", rows)
