"""Numbers that go wrong stop a training: its losses, its weights, its validation."""

import math
from collections.abc import Callable

import torch
from torch import nn


class Losses:
    """The losses of a training, looked at from time to time: on a GPU to look waits for it.

    Parameters
    ----------
    label : str
        What the training is called.
    steps : int
        Iterations of an epoch.
    names : callable
        ``names(iteration)`` lists the ids of the clips in this process's batch.
    """

    def __init__(self, label: str, steps: int, names: Callable[[int], list[str]]) -> None:
        self.label, self.steps, self.names = label, steps, names
        self.unread: list[tuple[int, torch.Tensor]] = []

    def add(self, iteration: int, loss: torch.Tensor) -> None:
        """Take the loss () of an iteration's batch."""
        self.unread.append((iteration, loss))

    def check(self, task: nn.Module, batch: tuple[torch.Tensor, ...]) -> None:
        """Look at those that haven't been looked at; ``batch`` is the newest one's, on any device.

        Raises
        ------
        RuntimeError
            If one is no number. Names the clips whose own loss is none, or all of the batch's if it
            isn't the newest: the network has learned from it since.
        """
        unread, self.unread = self.unread, []
        losses = torch.stack([loss for _, loss in unread]).tolist()
        wrong = [n for n, loss in enumerate(losses) if not math.isfinite(loss)]
        if not wrong:
            return
        at = unread[wrong[0]][0]
        names, bad = self.names(at), []
        device = next(task.parameters()).device
        task.eval()
        with torch.inference_mode():
            for number, name in enumerate(names if at == unread[-1][0] else []):
                one = (x[number : number + 1].to(device) for x in batch)
                if not torch.isfinite(task(*one)[0]).all():
                    bad.append(name)
        raise RuntimeError(
            f"{self.label}: the loss is {losses[wrong[0]]} in epoch {1 + at // self.steps}, "
            f"iteration {1 + at % self.steps}, at the clips {', '.join((bad or names)[:10])}; a "
            "smaller lr may help"
        )


def check_learned(label: str, epoch: int, task: nn.Module, val_loss: float | None) -> None:
    """Look at what an epoch, from 0, has made.

    Raises
    ------
    RuntimeError
        If the weights, or the validation loss, are no numbers.
    """
    # With batch statistics, which no loss of training depends on.
    finite = all(bool(torch.isfinite(value).all()) for value in task.state_dict().values())
    if not finite or not math.isfinite(val_loss or 0):
        raise RuntimeError(
            f"{label}: the {'validation loss is no number' if finite else 'weights are no numbers'}"
            f" after epoch {epoch + 1}; a smaller lr may help"
        )
