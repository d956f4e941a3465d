"""The one training loop of every network.

What is trained is a task (see :mod:`pipeline.learning.tasks`). An iteration's draws, rate and
random numbers depend on the params and on its number alone, so a training that is killed goes on
from its last checkpoint and ends with the bytes of one that wasn't.
"""

import copy
import threading
from collections.abc import Callable, Iterable
from contextlib import nullcontext

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pipeline.learning import devices
from pipeline.learning.checkpoints import Checkpoint
from pipeline.learning.finite import Losses, check_learned
from pipeline.learning.interrupts import Interrupted, stop_when_asked
from pipeline.learning.optimise import optimiser_of, parameter_groups, rate_factor
from pipeline.params import Engine
from pipeline.progress import progress
from pipeline.stream_params import Optimisation

Batch = tuple[torch.Tensor, ...]
_PRECISION = {"bfloat16": torch.bfloat16, "float16": torch.float16}
_READ_EVERY = 10  # iterations, on a GPU: to read the loss waits for it


class Fit:
    """Train a task in place.

    Parameters
    ----------
    task : nn.Module
        See :mod:`pipeline.learning.tasks`.
    batches : callable
        ``batches(first)`` gives the batches of the whole training from iteration ``first`` on.
    val : iterable of batches, or None
        This process's share of the validation clips.
    steps, clips : int
        Iterations and draws of an epoch.
    lr : float
        Rate of all layers but those that have their own.
    params : Optimisation
    engine : Engine
    seed : int
    label : str
        What the progress bar is called.
    names : callable
        ``names(iteration)`` lists the ids of the clips in this process's batch.
    checkpoint : Checkpoint or None
        Where to keep the state, and to go on from it if it is there.
    told : callable or None
        Called with the rows so far after each epoch.
    """

    def __init__(
        self,
        task: nn.Module,
        batches: Callable[[int], Iterable[Batch]],
        val: Iterable[Batch] | None,
        *,
        steps: int,
        clips: int,
        lr: float,
        params: Optimisation,
        engine: Engine,
        seed: int,
        label: str,
        names: Callable[[int], list[str]] = lambda _: [],
        checkpoint: Checkpoint | None = None,
        told: Callable[[list[dict]], None] | None = None,
    ) -> None:
        self.place = devices.place()
        devices.set_determinism(engine.deterministic)
        self.task = devices.to_device(task, self.place.device)
        self.batches, self.val, self.steps, self.clips = batches, val, steps, clips
        self.lr, self.params, self.engine, self.seed, self.label = lr, params, engine, seed, label
        self.checkpoint, self.told = checkpoint, told
        groups = parameter_groups(task, task.first_convs, task.new, lr, params)
        self.optimiser = optimiser_of(groups, lr, params)
        self.scaler = torch.amp.GradScaler(
            self.place.device.type, enabled=engine.precision == "float16"
        )
        ema = get_ema_multi_avg_fn(params.ema_decay)
        self.average = (
            AveragedModel(task, multi_avg_fn=ema, use_buffers=True) if params.ema_decay else None
        )
        self.model = task
        if engine.compile:
            task.model.compile()
        if self.place.world > 1:
            self.model = DistributedDataParallel(task, gradient_as_bucket_view=True)
        self.iteration, self.rows, self.rates, self.best = 0, [], [], None
        self.losses = Losses(label, steps, names)
        self.totals = torch.zeros(3, dtype=torch.float64, device=self.place.device)

    def run(self) -> list[dict[str, float]]:
        """Train to the end; the task has the weights to keep then.

        Returns
        -------
        list of dict
            A row an epoch: ``epoch, lr, train_loss, train_top1, val_loss, val_top1``; ``lr`` is the
            mean over the epoch's iterations, the last two are None without validation clips.

        Raises
        ------
        RuntimeError
            If a loss is no number; names the clips. If the weights, or the validation loss, are no
            numbers after an epoch.
        Interrupted
            After Ctrl-C.
        """
        self._restore()
        with (
            self._bar() as self.bar,
            stop_when_asked(self.place.world == 1) as asked,
        ):
            batches = iter(self.batches(self.iteration))
            for epoch in range(len(self.rows), self.params.epochs):
                if self._out_of_patience():
                    break
                self.task.train()
                for _ in range(self.iteration - epoch * self.steps, self.steps):
                    stop = self._iterate(next(batches), asked)
                    done = self.iteration == (epoch + 1) * self.steps  # kept with its row
                    if stop or not (done or self.iteration % self.engine.checkpoint_every):
                        self._save()
                    if stop:
                        devices.total(torch.zeros(1))  # none ends before the first one has saved
                        raise Interrupted(f"{self.label}: stopped in epoch {epoch + 1}; the same "
                                          "command goes on from there")  # fmt: skip
                self._end_epoch(epoch)
        self._keep()
        return self.rows

    def _bar(self):
        """Make the progress bar, of the first process alone."""
        return progress(desc=self.label, total=self.params.epochs * self.clips, unit="clip",
                        initial=self._shown(), leave=False,
                        disable=self.place.rank > 0)  # fmt: skip

    def _shown(self) -> int:
        """Count the clips of the epochs and iterations done."""
        epoch, step = divmod(self.iteration, self.steps)
        return epoch * self.clips + min(step * self.params.batch, self.clips)

    def _iterate(self, batch: Batch, asked: threading.Event) -> bool:
        """Train on one batch; return whether any process is ``asked`` to stop after it."""
        iteration, place, params = self.iteration, self.place, self.params
        factor = rate_factor(iteration / self.steps, params)
        for group in self.optimiser.param_groups:
            group["lr"] = group["base_lr"] * factor
        self.rates.append(self.lr * factor)
        drawn = np.random.SeedSequence((self.seed, iteration, place.rank))
        torch.manual_seed(int(drawn.generate_state(1, np.uint64)[0]))  # dropout
        own = torch.tensor([*self.task.counts(batch[-1]), asked.is_set()])
        summed = devices.total(own)
        counts, stop = summed[:-1], bool(summed[-1])
        loss, right = self._backward(batch, counts)
        self.losses.add(iteration, loss)
        periods = self.steps, self.engine.checkpoint_every, _READ_EVERY
        reads = (place.device.type == "cpu" or stop
                 or not all((iteration + 1) % period for period in periods))  # fmt: skip
        if reads:  # before it spoils the weights, or those that are kept
            self.losses.check(self.task, batch)
        if params.clip_norm:
            self.scaler.unscale_(self.optimiser)
            nn.utils.clip_grad_norm_(self.task.parameters(), params.clip_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        # Now, not before the next batch: what is allocated in between would lie among them.
        self.optimiser.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update_parameters(self.task)
        # The parts of a loss add up over processes, so does what each has got right.
        count = int(counts.sum())
        self.totals += torch.stack([
            loss.double() * count, right.double(), loss.new_tensor(count / place.world).double()
        ])  # fmt: skip
        if reads:
            self._show()
        self.iteration += 1
        self.bar.update(count)
        return stop

    def _backward(self, batch: Batch, counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the gradient, in passes; return this process's part of the loss, and its right.

        Each head's loss is a mean over its own clips of the whole batch, wherever they are.
        """
        device, precision = self.place.device, _PRECISION.get(self.engine.precision)
        shares = (1 / counts.clamp(min=1)).to(device, torch.float32)
        total, right = torch.zeros((), device=device), torch.zeros((), device=device)
        passes = list(zip(*(part.chunk(self.params.passes) for part in batch), strict=True))
        for number, part in enumerate(passes, 1):
            alone = self.place.world > 1 and number < len(passes)
            with self.model.no_sync() if alone else nullcontext():
                with torch.autocast(device.type, precision, enabled=precision is not None):
                    losses, good = self.model(*(x.to(device, non_blocking=True) for x in part))
                    loss = (losses * shares).sum()
                # DistributedDataParallel takes the mean over processes of what is a sum here.
                self.scaler.scale(loss * self.place.world).backward()
            total, right = total + loss.detach(), right + good
        return total, right

    def _show(self) -> None:
        """Show the epoch's loss and accuracy so far."""
        loss, right, count = self.totals.tolist()
        self.bar.set_postfix_str(
            f"epoch {1 + self.iteration // self.steps}/{self.params.epochs}, "
            f"loss {loss / count:.3f}, top-1 {right / count:.3f}", False,
        )  # fmt: skip

    def _end_epoch(self, epoch: int) -> None:
        """Add the epoch's row, tell it, and keep the state."""
        loss, right, count = devices.total(self.totals).tolist()
        row = {"epoch": epoch + 1, "lr": float(np.mean(self.rates)),
               "train_loss": loss / count, "train_top1": right / count,
               **self._validate()}  # fmt: skip
        check_learned(self.label, epoch, self.task, row["val_loss"])
        self.rows.append(row)
        self.totals.zero_()
        self.rates.clear()
        if self.params.keep == "best" and self._is_best(row):
            self.best = copy.deepcopy(self._kept().state_dict())
        if self.place.rank == 0:
            told = ", ".join(f"{k} {v:.4g}" for k, v in row.items() if v is not None)
            self.bar.write(f"{self.label}: {told}")
            if self.told:
                self.told(self.rows)
        self._save()

    def _validate(self) -> dict[str, float | None]:
        if self.val is None:
            return {"val_loss": None, "val_top1": None}
        task, device = self._kept(), self.place.device
        # Each process has batch statistics of its own clips; the first one's are kept.
        devices.same_buffers(task)
        task.eval()
        totals = torch.zeros(3, dtype=torch.float64, device=device)
        with torch.inference_mode():
            for batch in self.val:
                losses, right = task(*(x.to(device, non_blocking=True) for x in batch))
                count = task.counts(batch[-1]).sum().to(device)
                totals += torch.stack([losses.sum().double(), right.double(), count.double()])
        loss, right, count = devices.total(totals).tolist()
        return {"val_loss": loss / count, "val_top1": right / count}

    def _is_best(self, row: dict) -> bool:
        """Whether an epoch is the best so far: by accuracy, then by loss."""
        rank = lambda row: (row["val_top1"], -row["val_loss"])  # noqa: E731
        return all(rank(row) > rank(other) for other in self.rows if other is not row)

    def _out_of_patience(self) -> bool:
        """Whether the validation loss hasn't fallen for ``patience`` epochs."""
        losses = [row["val_loss"] for row in self.rows]
        patience = self.params.patience
        return bool(patience and losses) and len(losses) - int(np.argmin(losses)) > patience

    def _kept(self) -> nn.Module:
        """Give the task whose weights are validated and kept."""
        return self.task if self.average is None else self.average.module

    def _keep(self) -> None:
        """Put the weights to keep into the task."""
        if self.best is not None:
            self.task.load_state_dict(self.best)
        elif self.average is not None:
            self.task.load_state_dict(self.average.module.state_dict())

    def _save(self) -> None:
        """Keep the state; every process calls it, the first one writes."""
        if self.checkpoint is None:
            return
        self.totals = devices.total(self.totals)
        if self.place.rank > 0:
            self.totals.zero_()
            return
        average = None if self.average is None else self.average.state_dict()
        self.checkpoint.save({
            "iteration": self.iteration, "task": self.task.state_dict(),
            "optimiser": self.optimiser.state_dict(), "scaler": self.scaler.state_dict(),
            "average": average, "best": self.best,
            "rows": self.rows, "rates": self.rates, "totals": self.totals.tolist(),
        })  # fmt: skip

    def _restore(self) -> None:
        """Go on from the checkpoint, if there is one."""
        state = self.checkpoint.load() if self.checkpoint else None
        if state is None:
            return
        self.task.load_state_dict(state["task"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.iteration, self.best = state["iteration"], state["best"]
        self.rows, self.rates = state["rows"], state["rates"]
        if self.place.rank == 0:
            self.totals.copy_(torch.tensor(state["totals"], dtype=torch.float64))
            done = self.iteration - len(self.rows) * self.steps
            print(f"{self.label}: goes on at epoch {len(self.rows) + 1}, of which {done} of "
                  f"{self.steps} iterations are done")  # fmt: skip
