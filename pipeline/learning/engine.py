"""The one training loop of every stream, and the scoring of a clip."""

import math
import os
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from models import classifier_of, fold_bn, freeze_bn
from models.tsn import TSN
from pipeline.learning import volumes
from pipeline.progress import progress
from pipeline.stream_params import Training

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def device() -> torch.device:
    """Choose the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def loader_workers() -> int:
    """Count the processes that load: ``PIPELINE_LOADERS``, else one for every two cores."""
    asked = os.environ.get("PIPELINE_LOADERS")
    return int(asked) if asked else max(1, len(os.sched_getaffinity(0)) // 2)


def one_line(error: Exception) -> str:
    """Say an error in one line: of one in a loading process, what was raised there."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [repr(error)]
    return lines[-1].partition(": ")[2] if "Original Traceback" in str(error) else lines[0]


def parameter_groups(model: TSN, lr: float, params: Training) -> list[dict]:
    """Group the parameters by rate and decay, as tsn-pytorch's ``get_optim_policies`` does.

    Weights of convolutions and fully connected layers decay. Their biases learn ``bias_lr_scale``
    times as fast as their weights and don't, nor do batch normalisation and a learned consensus.
    The first convolution learns ``first_conv_lr_scale`` times as fast, and ``head_lr_scale`` times
    what is new: the classifier and a learned consensus.
    """
    network = model.network
    scales = {
        network.get_submodule(network.first_conv): params.first_conv_lr_scale,
        classifier_of(network): params.head_lr_scale,
        model.consensus: params.head_lr_scale,
    }
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for module in model.modules():
        normalises = isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d)
        for name, parameter in module.named_parameters(recurse=False):
            scale = scales.get(module, 1.0)
            if name == "bias" and not normalises:
                scale *= params.bias_lr_scale
            decay = params.weight_decay if parameter.ndim > 1 else 0.0
            if parameter.requires_grad:
                groups.setdefault((lr * scale, decay), []).append(parameter)
    return [
        {"params": members, "base_lr": rate, "weight_decay": decay}
        for (rate, decay), members in groups.items()
    ]


def rate_factor(epoch: float, params: Training) -> float:
    """Give the factor of the learning rate after so many epochs, whole or in part.

    A linear warm-up over the share ``warmup`` of the training; then ``cosine`` falls to zero, and
    ``steps`` multiplies by ``gamma`` after each of ``milestones``, in epochs.
    """
    progress = epoch / params.epochs
    warm = min(1.0, progress / params.warmup) if params.warmup else 1.0
    if params.schedule == "cosine":
        return warm * 0.5 * (1 + math.cos(math.pi * progress))
    return warm * params.gamma ** sum(epoch >= milestone for milestone in params.milestones)


def train(
    network: nn.Module,
    epoch_loader: Callable[[int], Iterable[Batch]],
    val_loader: Iterable[Batch] | None,
    *,
    clips: int,
    lr: float,
    std: tuple[float, ...],
    params: Training,
    seed: int,
    label: str,
) -> list[dict[str, float]]:
    """Train in place by SGD with momentum on the segments' consensus; return one row an epoch.

    Parameters
    ----------
    network : nn.Module
        (N, C, H, W) to (N, classes). What a consensus learns beside it is not kept.
    epoch_loader : callable
        Gives an epoch's batches: snippets (N, K, H, W, C) uint8 or int16, offsets (N, K, C), labels
        (N,).
    val_loader : iterable of the same, or None
    clips : int
        Draws of an epoch, for the progress shown.
    lr : float
        Rate of all layers but the classifier.
    std : tuple of float
        What to divide each channel by, in codes.

    Returns
    -------
    list of dict
        ``epoch, lr, train_loss, train_top1, val_loss, val_top1``; ``lr`` is the mean over the
        epoch's steps, the last two are None without validation clips.
    """
    on = device()
    model = TSN(
        network, consensus=params.consensus, segments=params.segments, top_k=params.top_k
    ).to(on, memory_format=torch.channels_last)
    # A classifier alone learns on features that don't move.
    frozen = "all" if params.trained == "classifier" else params.freeze_bn
    if params.trained == "classifier":
        network.requires_grad_(False)
        classifier_of(network).requires_grad_(True)
    freeze_bn(network, frozen)
    optimiser = torch.optim.SGD(parameter_groups(model, lr, params), lr, params.momentum)
    rows = []
    with progress(desc=label, total=params.epochs * clips, unit="clip", leave=False) as bar:
        for epoch in range(params.epochs):
            torch.manual_seed(seed * 100_003 + epoch)  # dropout
            model.train()
            freeze_bn(network, frozen)
            row = {"epoch": epoch + 1}
            row |= _epoch(model, epoch_loader(epoch), optimiser, epoch, std, params, bar)
            rows.append(row | _validate(model, val_loader, std, on))
            told = ", ".join(f"{k} {v:.4g}" for k, v in rows[-1].items() if v is not None)
            bar.write(f"{label}: {told}")
    return rows


def _epoch(
    model: nn.Module,
    batches: Iterable[Batch],
    optimiser: torch.optim.Optimizer,
    epoch: int,
    std: tuple[float, ...],
    params: Training,
    bar: tqdm,
) -> dict[str, float]:
    """Train for one epoch; return its mean rate, loss and accuracy."""
    on = next(model.parameters()).device
    total, rates = np.zeros(3), []
    for step, batch in enumerate(batches):
        factor = rate_factor(epoch + step / len(batches), params)
        for group in optimiser.param_groups:
            group["lr"] = group["base_lr"] * factor
        rates.append(optimiser.defaults["lr"] * factor)
        loss, right, count = _forward(model, batch, std, on)
        if not torch.isfinite(loss):
            raise RuntimeError(f"{bar.desc}: the loss is {loss.item()} in epoch {epoch + 1}; "
                               "a smaller lr may help")  # fmt: skip
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if params.clip_norm:
            nn.utils.clip_grad_norm_(model.parameters(), params.clip_norm)
        optimiser.step()
        total += loss.item() * count, right, count
        mean_loss, top1 = total[:2] / total[2]
        bar.set_postfix_str(
            f"epoch {epoch + 1}/{params.epochs}, loss {mean_loss:.3f}, top-1 {top1:.3f}", False
        )
        bar.update(count)
    return {"lr": float(np.mean(rates)), "train_loss": mean_loss, "train_top1": top1}


def _forward(
    model: nn.Module, batch: Batch, std: tuple[float, ...], on: torch.device
) -> tuple[torch.Tensor, int, int]:
    """Run a batch; return its mean loss, the number of right answers and of clips."""
    snippets, offsets, labels = batch
    inputs = volumes.normalise(snippets.flatten(0, 1), offsets.flatten(0, 1), std)
    inputs, labels = inputs.to(on), labels.to(on)
    logits = model(inputs.unflatten(0, snippets.shape[:2]))
    right = int((logits.argmax(1) == labels).sum())
    return F.cross_entropy(logits, labels), right, len(labels)


def _validate(
    model: nn.Module, loader: Iterable[Batch] | None, std: tuple[float, ...], on: torch.device
) -> dict[str, float | None]:
    if loader is None:
        return {"val_loss": None, "val_top1": None}
    model.eval()
    total = np.zeros(3)
    with torch.inference_mode():
        for batch in loader:
            loss, right, count = _forward(model, batch, std, on)
            total += loss.item() * count, right, count
    return {"val_loss": total[0] / total[2], "val_top1": total[1] / total[2]}


def score_views(
    network: nn.Module,
    clips: Iterable[Batch],
    *,
    std: tuple[float, ...],
    batch: int = 64,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Average the logits and the softmax over all views of each clip.

    Parameters
    ----------
    network : nn.Module
        Changed for good: its batch normalisation is folded into the convolutions.
    clips : iterable of (codes (V, H, W, C) uint8 or int16, offsets (V, C) float32, label)
    std : tuple of float
        As in :func:`train`.
    batch : int
        Views at a time; bounds memory, the result doesn't depend on it beyond rounding.

    Yields
    ------
    logits, probs : ndarray of shape (classes,), float32
    """
    on = device()
    network = fold_bn(network.eval()).to(on, memory_format=torch.channels_last)
    for codes, offsets, _ in clips:
        with torch.inference_mode():
            parts = zip(codes.split(batch), offsets.split(batch), strict=True)
            logits = torch.cat([network(volumes.normalise(*part, std).to(on)) for part in parts])
            logits = logits.double().cpu()
            means = logits.mean(0).float().numpy(), logits.softmax(1).mean(0).float().numpy()
        yield means  # outside: a caller that stops half-way would stay in inference mode
