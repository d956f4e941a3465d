"""The training loop and the scoring of clips."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.learning import loading, volumes
from pipeline.learning.engine import Fit
from pipeline.learning.optimise import rate_factor
from pipeline.learning.scoring import score_views
from pipeline.learning.tasks import SnippetTask
from pipeline.params import Engine
from pipeline.stream_params import Training

STD = (50.0, 60.0, 70.0)
PARAMS = Training(
    lr_scale=1.0, head_lr_scale=10.0, bias_lr_scale=1.0, first_conv_lr_scale=1.0, trained="all",
    frozen_up_to="", auxiliary=(), segments=2, consensus="average", top_k=1, epochs=4,
    epoch_batches=0, sampling="shuffle", batch=8, passes=1, optimiser="sgd", momentum=0.9,
    weight_decay=0.0005, schedule="cosine", milestones=(), gamma=0.1, warmup=0.0, clip_norm=5.0,
    label_smoothing=0.0, ema_decay=0.0, patience=0, keep="last", scale_jitter=(1.0,),
    crop_places="anywhere", flip=False, rgb_jitter=0.0, freeze_bn="none",
)  # fmt: skip
ENGINE = Engine(
    processes=1, precision="float32", compile=False, deterministic=True, checkpoint_every=2
)


class Tiny(nn.Module):
    first_conv, head = "conv", "fc"

    def __init__(self, dropout=0.2, channels=3):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(channels, 6, 3), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 6, 3, bias=False), nn.BatchNorm2d(6)
        self.dropout, self.fc = nn.Dropout(dropout), nn.Linear(6, 3)

    def forward(self, x):
        x = torch.relu(self.bn(self.conv(x)))
        return self.fc(self.dropout(torch.relu(self.bn2(self.conv2(x))).mean((2, 3))))


def tiny(**options):
    torch.manual_seed(0)
    return Tiny(**options)


def batches(epoch, *, count=3, clips=8):
    """Make clips whose brightest channel is their label."""
    rng = np.random.default_rng((5, epoch))
    made = []
    for _ in range(count):
        labels = rng.integers(0, 3, clips)
        codes = rng.integers(0, 120, (clips, 2, 8, 8, 3))
        codes[np.arange(clips), :, :, :, labels] += 100
        offsets = np.full((clips, 2, 3), 110, np.float32)
        made.append((torch.from_numpy(codes.astype(np.uint8)), torch.from_numpy(offsets),
                     torch.from_numpy(labels)))  # fmt: skip
    return made


def fit(network, params=PARAMS, *, epoch_loader=batches, val=None, seed=3, heads=(3,), **options):
    task = SnippetTask(network, params, STD, heads)
    return fit_task(task, params, epoch_loader=epoch_loader, val=val, seed=seed, **options)


def fit_task(task, params=PARAMS, *, epoch_loader=batches, val=None, seed=3, lr=0.01,
             all_batches=None, **options):  # fmt: skip
    """Train on each epoch's list of batches."""
    steps = len(epoch_loader(0))

    def every_batch(first):
        made = [batch for epoch in range(params.epochs) for batch in epoch_loader(epoch)]
        return made[first:]

    return Fit(
        task, all_batches or every_batch, val, steps=steps, clips=24, lr=lr, params=params,
        seed=seed, label="tiny", **({"engine": ENGINE} | options),
    ).run()  # fmt: skip


@pytest.mark.parametrize(
    ("epoch", "changes", "expected"),
    [
        (0.0, {}, 1.0),
        (2.0, {}, 0.5),
        (4 / 3, {}, 0.75),
        (4.0, {}, 0.0),
        (0.0, {"warmup": 0.2}, 0.0),
        (0.4, {"warmup": 0.2}, 0.5 * 0.5 * (1 + math.cos(math.pi / 10))),
        (2.0, {"warmup": 0.2}, 0.5),
        (1.99, {"schedule": "steps", "milestones": (2, 3)}, 1.0),
        (2.0, {"schedule": "steps", "milestones": (2, 3)}, 0.1),
        (3.2, {"schedule": "steps", "milestones": (2, 3)}, 0.01),
        (3.2, {"schedule": "steps", "milestones": (2, 3), "gamma": 0.5}, 0.25),
        (0.2, {"schedule": "steps", "milestones": (2,), "warmup": 0.1}, 0.5),
        (3.6, {"schedule": "steps"}, 1.0),
        # Two-Stream from scratch: 0.1 of it after 50,000 and 70,000 of 80,000 iterations.
        (49.999, {"epochs": 80, "schedule": "steps", "milestones": (50, 70)}, 1.0),
        (50.0, {"epochs": 80, "schedule": "steps", "milestones": (50, 70)}, 0.1),
        (70.0, {"epochs": 80, "schedule": "steps", "milestones": (50, 70)}, 0.01),
    ],
)
def test_rate_factor_by_hand(epoch, changes, expected):
    found = rate_factor(epoch, replace(PARAMS, **changes))
    assert found == pytest.approx(expected, abs=1e-12)


def test_a_classifier_alone_learns_on_features_that_stay():
    network = tiny()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    rows = fit(network, replace(PARAMS, trained="classifier", epochs=6))
    changed = {name for name, value in network.state_dict().items()
               if not torch.equal(value, before[name])}  # fmt: skip
    assert changed == {"fc.weight", "fc.bias"}
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]


def test_training_learns_and_reports():
    network = tiny()
    rows = fit(network, replace(PARAMS, epochs=6), val=batches(99))
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert list(rows[0]) == ["epoch", "lr", "train_loss", "train_top1", "val_loss", "val_top1"]
    assert rows[0]["train_loss"] > 0.5
    assert rows[-1]["train_loss"] < 0.6 * rows[0]["train_loss"]
    assert rows[-1]["val_top1"] > 0.9 > rows[0]["train_top1"]


@pytest.mark.parametrize("warmup", [0.0, 0.25])
def test_the_curve_has_the_mean_rate_of_each_epochs_steps(warmup):
    rows = fit(tiny(), replace(PARAMS, schedule="steps", milestones=(3,), warmup=warmup))
    # Four epochs of three steps: a warm-up over the first goes 0, 1/3, 2/3.
    first = 0.01 / 3 if warmup else 0.01
    assert [row["lr"] for row in rows] == pytest.approx([first, 0.01, 0.01, 0.001])


def test_two_runs_give_equal_weights_and_another_seed_others():
    networks, rows = [tiny() for _ in range(3)], []
    for network, seed in zip(networks, (3, 3, 4), strict=True):
        torch.rand(seed)  # what was drawn before must not matter
        rows.append(fit(network, seed=seed))
    first, second, other = ([v.numpy().tobytes() for v in n.state_dict().values()]
                            for n in networks)  # fmt: skip
    assert first == second and rows[0] == rows[1]
    assert first != other


@pytest.mark.parametrize(("first", "bias"), [(1, 1), (5, 2)])
def test_one_step_is_sgd_on_the_consensus(first, bias):
    """A single batch, by autograd in float64 and the update rule written out."""
    params = replace(PARAMS, epochs=1, clip_norm=0.0, schedule="steps", first_conv_lr_scale=first,
                     bias_lr_scale=bias)  # fmt: skip
    network, twin = tiny(dropout=0.0), tiny(dropout=0.0).double().train()
    (codes, offsets, labels) = batches(0, count=1)[0]
    fit(network, params, epoch_loader=lambda _: [(codes, offsets, labels)])
    x = (codes.double() - offsets[:, :, None, None]) / torch.tensor(STD).double()
    logits = twin(x.flatten(0, 1).permute(0, 3, 1, 2)).reshape(8, 2, 3).mean(1)
    loss = -logits.log_softmax(1)[torch.arange(8), labels].mean()
    loss.backward()
    for (name, found), own in zip(network.named_parameters(), twin.parameters(), strict=True):
        rate = 0.1 if name.startswith("fc") else 0.01
        rate *= first if name.startswith("conv.") else 1
        rate *= bias if name.endswith("bias") and not name.startswith("bn") else 1
        decay = 0.0005 if own.ndim > 1 else 0.0
        expected = own - rate * (own.grad + decay * own)
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("passes", [1, 2])
def test_clipping_bounds_the_step(passes):
    start, moved = tiny(), {}
    for clip in (0.0, 1e-4):
        network = tiny()
        fit(network, replace(PARAMS, epochs=1, clip_norm=clip, weight_decay=0.0, momentum=0.0,
                             passes=passes),
            epoch_loader=lambda epoch: batches(epoch, count=1))  # fmt: skip
        pairs = zip(network.parameters(), start.parameters(), strict=True)
        moved[clip] = math.sqrt(sum(float((a - b).detach().square().sum()) for a, b in pairs))
    # A gradient of length 1e-4 at a rate of at most 0.1.
    assert 0 < moved[1e-4] <= 1.01e-5 < moved[0.0]


def test_frozen_batch_norm_stays_frozen_through_training():
    network = tiny()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    fit(network, replace(PARAMS, freeze_bn="all_but_first"), val=batches(9))
    after = network.state_dict()
    for key in ("weight", "bias", "running_mean", "running_var"):
        assert torch.equal(after[f"bn2.{key}"], before[f"bn2.{key}"])
        assert not torch.equal(after[f"bn.{key}"], before[f"bn.{key}"])


def test_validation_changes_no_weights():
    plain, checked = tiny(), tiny()
    assert fit(plain)[0]["val_loss"] is None
    assert fit(checked, val=batches(9))[0]["val_loss"] > 0
    for a, b in zip(plain.state_dict().values(), checked.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_loss_that_is_no_number_stops_the_training():
    network = tiny()
    nn.init.constant_(network.fc.bias, math.nan)
    with pytest.raises(RuntimeError, match="tiny: the loss is nan in epoch 1"):
        fit(network)


@pytest.mark.parametrize(("asked", "expected"), [("0", 0), ("3", 3)])
def test_loader_workers_can_be_set(monkeypatch, asked, expected):
    monkeypatch.setenv("PIPELINE_LOADERS", asked)
    assert loading.loader_workers() == expected


@pytest.mark.parametrize("asked", ["abc", "-1", "1.5"])
def test_a_number_of_loader_workers_that_is_none_is_refused(monkeypatch, asked):
    monkeypatch.setenv("PIPELINE_LOADERS", asked)
    with pytest.raises(ValueError, match=f"PIPELINE_LOADERS: got '{asked}', expected a number"):
        loading.loader_workers()


def clips():
    rng = np.random.default_rng(0)
    for snippets in (1, 7, 12):
        # Room of an odd width: an even one hides a mirrored crop that is cut on the other side.
        codes = rng.integers(0, 256, (snippets, 11, 14, 4)).astype(np.uint8)
        offsets = rng.uniform(90, 140, (snippets, 4)).astype(np.float32)
        yield torch.from_numpy(codes), torch.from_numpy(offsets), 1


VIEWS = {"crop": 9, "crops": 10, "signed": True, "std": (*STD, 60.0)}


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("crops", [1, 2, 5, 10])
def test_scores_are_means_over_views(crops, signed):
    """Against views that are cut from codes and mirrored as in training."""
    network = tiny(dropout=0.5, channels=4)
    nn.init.normal_(network.fc.weight, std=5.0)
    how = VIEWS | {"crops": crops, "signed": signed}
    found = list(score_views(network, clips(), **how))
    network.eval()
    for (logits, probs), (snippets, all_offsets, _) in zip(found, clips(), strict=True):
        assert logits.shape == probs.shape == (3,) and logits.dtype == probs.dtype == np.float32
        single = []
        for codes, offsets in zip(snippets.numpy(), all_offsets.numpy(), strict=True):
            centre = codes[1:10, 2:11]
            corners = [codes[:9, :9], codes[:9, 5:], codes[2:, :9], codes[2:, 5:]]
            views = [(box, offsets) for box in ([centre] if crops <= 2 else [*corners, centre])]
            if crops in (2, 10):
                means = volumes.flip_means(offsets) if signed else offsets
                views += [(volumes.flip(box, signed=signed), means) for box, _ in views]
            for view in views:
                x = volumes.normalise(*(torch.from_numpy(part)[None] for part in view), how["std"])
                with torch.no_grad():
                    single.append(network(x)[0].double().numpy())
        assert len(single) == crops * len(snippets)
        single = np.array(single)
        softmax = np.exp(single) / np.exp(single).sum(1, keepdims=True)
        np.testing.assert_allclose(logits, single.mean(0), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(probs, softmax.mean(0), rtol=1e-5, atol=1e-6)


def test_scoring_half_way_leaves_gradients_on():
    answers = score_views(tiny(channels=4), clips(), **VIEWS)
    next(answers)
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


@pytest.mark.parametrize(("batch", "most"), [(1, 10), (20, 20), (59, 40), (120, 120)])
def test_the_batch_bounds_the_views_at_a_time_and_not_the_scores(batch, most):
    network, seen = tiny(channels=4), []
    network.conv.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    found = list(score_views(network, clips(), **VIEWS, batch=batch))
    assert max(seen) == most and sum(seen) == 200
    for one, other in zip(found, score_views(network, clips(), **VIEWS), strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
