"""A training that is stopped anywhere ends as if it hadn't been, to the byte."""

import math
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_engine import ENGINE, PARAMS, batches, fit, fit_task, tiny
from torch import nn

from pipeline.learning.checkpoints import Checkpoint, fingerprint, training
from pipeline.learning.finite import Losses
from pipeline.learning.interrupts import Interrupted
from pipeline.learning.tasks import SnippetTask

FULL = replace(
    PARAMS, ema_decay=0.9, keep="best", consensus="weighted", schedule="cosine", warmup=0.1
)


class Stop(Exception):
    pass


def until(stop):
    """Give batches that end with an error, as a process is killed."""

    def epoch_loader(epoch):
        return batches(epoch)

    served = []

    def all_batches(first):
        made = [batch for epoch in range(FULL.epochs) for batch in epoch_loader(epoch)][first:]
        for batch in made:
            if len(served) == stop:
                raise Stop
            served.append(first)
            yield batch

    return all_batches


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
@pytest.mark.parametrize("stop", [1, 2, 3, 5, 10])
def test_killed_and_gone_on_with_ends_in_the_same_bytes(tmp_path, monkeypatch, stop, optimiser):
    params = replace(FULL, optimiser=optimiser)
    whole = SnippetTask(tiny(), params, (50.0, 60.0, 70.0), (3,))
    rows = fit_task(whole, params, val=batches(9))
    checkpoint = Checkpoint(tmp_path / "c.pt")
    with pytest.raises(Stop):
        fit_task(SnippetTask(tiny(), params, (50.0, 60.0, 70.0), (3,)), params, val=batches(9),
                 all_batches=until(stop), checkpoint=checkpoint)  # fmt: skip
    torch.rand(7)
    again = SnippetTask(tiny(), params, (50.0, 60.0, 70.0), (3,))
    if stop > 1:  # there is a checkpoint, and the start doesn't count
        nn.init.normal_(again.model.network.fc.bias)
    assert rows == fit_task(again, params, val=batches(9), checkpoint=checkpoint)
    for one, other in zip(whole.state_dict().values(), again.state_dict().values(), strict=True):
        assert one.numpy().tobytes() == other.numpy().tobytes()


@pytest.mark.parametrize(("at", "epoch"), [(1, 1), (5, 2), (6, 2), (12, 4)])
def test_after_ctrl_c_the_iteration_ends_and_the_state_is_kept(tmp_path, at, epoch):
    """Also in the last iteration of an epoch, and of them all."""
    params = replace(PARAMS, keep="best")
    checkpoint, seen = Checkpoint(tmp_path / "c.pt"), []

    def all_batches(first):
        made = [batch for epoch in range(PARAMS.epochs) for batch in batches(epoch)][first:]
        for batch in made:
            seen.append(first)
            if len(seen) == at:
                os.kill(os.getpid(), signal.SIGINT)
            yield batch

    network, whole, before = tiny(), tiny(), signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match=f"stopped in epoch {epoch}; the same command goes on"):
        fit(network, params, val=batches(9), all_batches=all_batches, checkpoint=checkpoint)
    assert checkpoint.load()["iteration"] == at
    rows = fit(network, params, val=batches(9), checkpoint=checkpoint)
    assert rows == fit(whole, params, val=batches(9))
    assert torch.equal(network.fc.weight, whole.fc.weight)
    assert signal.getsignal(signal.SIGINT) is before


def test_other_params_have_another_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with training("rgb", {"lr": 0.1}, 0) as (item, checkpoint):
        checkpoint.save({"iteration": 3})
    with training("rgb", {"lr": 0.2}, 0) as (other, anew):
        assert other != item and anew.load() is None
    with training("rgb", {"lr": 0.1}, 0) as (_, again):
        assert again.load() == {"iteration": 3}


def test_pictures_that_are_replaced_are_other_data(tmp_path):
    """Also in place, where their folder has no other time of change."""
    (tmp_path / "videos.csv").write_text("video_id")
    (tmp_path / "clip").mkdir()
    picture = tmp_path / "clip/1.jpg"
    picture.write_bytes(b"old")
    seen = [fingerprint(tmp_path)]
    assert fingerprint(tmp_path) == seen[0]
    os.utime(tmp_path / "videos.csv", (0, 0))  # its content counts
    assert fingerprint(tmp_path) == seen[0]
    picture.write_bytes(b"new")
    os.utime(picture, ns=(0, 1))  # some systems' clocks have ticks of milliseconds
    seen.append(fingerprint(tmp_path))
    picture.rename(tmp_path / "clip/2.jpg")
    seen.append(fingerprint(tmp_path))
    (tmp_path / "videos.csv").write_text("video-id")
    seen.append(fingerprint(tmp_path))
    assert len(set(seen)) == 4


def test_passes_of_a_batch_give_its_gradient():
    """Without batch statistics, which are of a pass; uneven passes and heads too."""
    params = replace(PARAMS, freeze_bn="all", epochs=2)
    networks = [tiny(dropout=0.0) for _ in range(3)]
    rows = [fit(network, replace(params, passes=passes))
            for network, passes in zip(networks, (1, 2, 3), strict=True)]  # fmt: skip
    for network, row in zip(networks[1:], rows[1:], strict=True):
        torch.testing.assert_close(network.conv.weight, networks[0].conv.weight)
        assert row[-1]["train_loss"] == pytest.approx(rows[0][-1]["train_loss"], rel=1e-5)
        assert row[-1]["train_top1"] == rows[0][-1]["train_top1"]


def test_a_moving_average_by_its_formula():
    params = replace(PARAMS, epochs=1, ema_decay=0.5, schedule="steps")
    steps = [tiny()]
    for count in (1, 2, 3):
        network = tiny()
        fit(network, replace(params, ema_decay=0.0),
            epoch_loader=lambda epoch, count=count: batches(epoch)[:count])  # fmt: skip
        steps.append(network)
    averaged = tiny()
    fit(averaged, params)
    # torch's average starts as a copy of the first weights it is shown.
    expected = steps[1].fc.weight
    for network in steps[2:]:
        expected = 0.5 * expected + 0.5 * network.fc.weight
    torch.testing.assert_close(averaged.fc.weight, expected)


def test_the_best_epochs_weights_are_kept():
    val, params = batches(9), replace(PARAMS, schedule="steps", epochs=6)
    rows = fit(tiny(), params, val=val, lr=0.3)
    best = max(range(6), key=lambda i: (rows[i]["val_top1"], -rows[i]["val_loss"]))
    assert best < 5  # or it would prove nothing
    kept, last = tiny(), tiny()
    fit(kept, replace(params, keep="best"), val=val, lr=0.3)
    fit(last, params, val=val, lr=0.3)
    assert not torch.equal(kept.fc.weight, last.fc.weight)
    network = tiny()
    with pytest.raises(Stop):
        fit(network, params, val=val, lr=0.3, told=lambda rows: stop_after(rows, best + 1))
    assert torch.equal(kept.fc.weight, network.fc.weight)


def stop_after(rows, count):
    if len(rows) == count:
        raise Stop


def test_patience_ends_a_training_that_gets_worse():
    rows = fit(tiny(), replace(PARAMS, epochs=12, patience=2), val=batches(9), lr=3.0)
    losses = [row["val_loss"] for row in rows]
    assert len(rows) < 12 and int(np.argmin(losses)) == len(losses) - 3


def test_a_clip_whose_loss_is_no_number_is_named():
    def poisoned(epoch):
        made = batches(epoch)
        made[1][1][4] = np.nan  # offsets of the fifth clip
        return made

    with pytest.raises(RuntimeError, match="nan in epoch 1, iteration 2, at the clips clip-1-4;"):
        fit(tiny(), replace(PARAMS, freeze_bn="all"), epoch_loader=poisoned,
            names=lambda i: [f"clip-{i}-{n}" for n in range(8)])  # fmt: skip


@pytest.mark.parametrize(("weight", "said"), [
    (math.inf, "the weights are no numbers after epoch 1; a smaller lr may help"),
    (3e38, "the validation loss is no number after epoch 1; a smaller lr may help"),
])  # fmt: skip
def test_what_an_epoch_has_spoiled_is_refused(weight, said):
    """The last step's loss is of the weights before it."""
    network = tiny()

    def spoil(*_):
        network.fc.weight.data.fill_(weight)

    def all_batches(first):
        yield from batches(0)[:2]
        network.fc.register_forward_hook(spoil)
        yield batches(0)[2]

    with pytest.raises(RuntimeError, match=f"tiny: {said}"):
        fit(network, replace(PARAMS, epochs=1, clip_norm=0.0), all_batches=all_batches,
            val=batches(9))  # fmt: skip


def test_losses_that_are_read_late_name_the_clips_of_their_own_batch():
    """As on a GPU, where to read each one would wait for it."""
    losses = Losses("tiny", 3, lambda i: [f"clip-{i}-{n}" for n in range(2)])
    for iteration, loss in enumerate((1.0, 2.0, math.nan, 3.0, math.nan)):
        losses.add(iteration, torch.tensor(loss))
    with pytest.raises(
        RuntimeError, match="nan in epoch 1, iteration 3, at the clips clip-2-0, clip"
    ):
        losses.check(tiny(), batches(0)[0])


def test_batch_statistics_that_are_spoiled_are_refused():
    """No loss of training depends on them."""
    network = tiny()

    def spoil(*_):
        network.bn2.running_var.data.fill_(math.inf)

    network.fc.register_forward_hook(spoil)
    with pytest.raises(RuntimeError, match="the weights are no numbers after epoch 1"):
        fit(network)


@pytest.mark.parametrize("precision", ["bfloat16"])
def test_lower_precision_learns_too(precision):
    rows = fit(tiny(), replace(PARAMS, epochs=6), engine=replace(ENGINE, precision=precision))
    assert rows[-1]["train_loss"] < 0.7 * rows[0]["train_loss"]
