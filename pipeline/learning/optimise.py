"""Rates, decay, schedules and optimisers: what a training's params say of them."""

import math

import torch
from torch import nn

from pipeline.stream_params import Optimisation


def parameter_groups(
    model: nn.Module,
    first_convs: list[nn.Module],
    new: list[nn.Module],
    lr: float,
    params: Optimisation,
) -> list[dict]:
    """Group the parameters by rate and decay, as tsn-pytorch's ``get_optim_policies`` does.

    Weights of convolutions and fully connected layers decay. Their biases learn ``bias_lr_scale``
    times as fast as their weights and don't, nor do batch normalisation and a learned consensus.
    A parameter's own ``lr_scale``, if a task has given it one, comes on top.

    Parameters
    ----------
    model : nn.Module
    first_convs, new : list of nn.Module
        Parts of it: those learn ``first_conv_lr_scale`` times as fast, these, classifiers and a
        learned consensus, ``head_lr_scale`` times.
    lr : float
        Of everything else.
    params : Optimisation

    Returns
    -------
    list of dict
        What ``torch.optim`` takes; ``base_lr`` is a group's rate before the schedule.
    """
    scales = dict.fromkeys(first_convs, params.first_conv_lr_scale)
    scales |= dict.fromkeys(new, params.head_lr_scale)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for module in model.modules():
        normalises = isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d)
        for name, parameter in module.named_parameters(recurse=False):
            scale = scales.get(module, 1.0) * getattr(parameter, "lr_scale", 1.0)
            if name == "bias" and not normalises:
                scale *= params.bias_lr_scale
            decay = params.weight_decay if parameter.ndim > 1 else 0.0
            if parameter.requires_grad:
                groups.setdefault((lr * scale, decay), []).append(parameter)
    return [
        {"params": members, "base_lr": rate, "weight_decay": decay}
        for (rate, decay), members in groups.items()
    ]


def optimiser_of(groups: list[dict], lr: float, params: Optimisation) -> torch.optim.Optimizer:
    """Make torch's SGD with momentum (the papers), or its AdamW, whose beta_1 is the momentum."""
    if params.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr, betas=(params.momentum, 0.999))
    return torch.optim.SGD(groups, lr, params.momentum)


def rate_factor(epoch: float, params: Optimisation) -> float:
    """Give the factor of the learning rate after so many epochs, whole or in part.

    A linear warm-up over the share ``warmup`` of the training; then ``cosine`` falls to zero, and
    ``steps`` multiplies by ``gamma`` after each of ``milestones``, in epochs. It is torch's
    ``LinearLR``, ``CosineAnnealingLR`` and ``MultiStepLR`` in closed form, so that a training
    resumes at any iteration without a state.
    """
    progress = epoch / params.epochs
    warm = min(1.0, progress / params.warmup) if params.warmup else 1.0
    if params.schedule == "cosine":
        return warm * 0.5 * (1 + math.cos(math.pi * progress))
    return warm * params.gamma ** sum(epoch >= milestone for milestone in params.milestones)
