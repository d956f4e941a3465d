"""Batches in memory that processes share: they are what torch's own way of collecting gives."""

import gc
import time
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset, default_collate
from torch.utils.data._utils.pin_memory import pin_memory

from pipeline.learning import loading


class Numbered(Dataset):
    """Samples that say what was drawn."""

    def __getitem__(self, drawn):
        epoch, position, clip = drawn
        if clip == 99:
            raise ValueError("clip 99 is broken")
        codes = np.full((2, 5, 4, 3), (7 * epoch + 3 * position + clip) % 251, np.uint8)
        return codes, np.float32([[position, clip, 0.5]]), clip


def batches_of(sizes):
    """Give draws, in batches of such sizes."""
    starts = np.cumsum([0, *sizes]).tolist()
    return [[(n, i, i % 13) for i in range(a, b)] for n, (a, b) in enumerate(pairwise(starts))]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 6), max_size=12))
def test_batches_are_those_of_torchs_way(sizes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIPELINE_LOADERS", "0")
        same_as_collected(batches_of(sizes))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("loaders", [1, 3])
def test_any_number_of_processes_gives_the_same(monkeypatch, loaders):
    monkeypatch.setenv("PIPELINE_LOADERS", str(loaders))
    same_as_collected(batches_of([6, 6, 1, 6, 5, 6, 6, 6, 2] * 5))


def same_as_collected(draws):
    """Hold all batches against default_collate; each one while the next is being made."""
    clips, seen = Numbered(), 0
    for got, drawn in zip(loading.training_batches(clips, draws, 6), draws, strict=True):
        time.sleep(0.002)  # the processes run ahead as far as they may
        for part, expected in zip(got, default_collate([clips[d] for d in drawn]), strict=True):
            assert part.dtype == expected.dtype and torch.equal(part, expected)
        seen += 1
    assert seen == len(draws)


@pytest.mark.parametrize("change", [np.int16, lambda codes: codes[:1]])
def test_samples_that_differ_in_kind_are_refused(monkeypatch, change):
    monkeypatch.setenv("PIPELINE_LOADERS", "0")
    clips = Numbered()
    batches = loading.training_batches(clips, batches_of([2, 2]), 2)
    next(batches)
    plain = Numbered.__getitem__
    monkeypatch.setattr(
        Numbered, "__getitem__", lambda *asked: (change(plain(*asked)[0]), *plain(*asked)[1:])
    )
    with pytest.raises(ValueError, match=r"expected uint8 \(2, 5, 4, 3\) as the first"):
        next(batches)


def test_a_sample_that_cannot_be_read_is_told_in_one_line(monkeypatch):
    monkeypatch.setenv("PIPELINE_LOADERS", "1")
    draws = [*batches_of([4, 4]), [(0, 0, 99)]]
    with pytest.raises(ValueError) as told:
        list(loading.training_batches(Numbered(), draws, 4))
    assert loading.one_line(told.value) == "clip 99 is broken"


def test_a_batch_is_good_after_its_loader_is_gone(monkeypatch):
    monkeypatch.setenv("PIPELINE_LOADERS", "1")
    draws = batches_of([3] * 4)
    batches = loading.training_batches(Numbered(), draws, 3)
    first = next(batches)
    batches.close()
    del batches
    gc.collect()
    assert torch.equal(first[2], torch.tensor([clip for *_, clip in draws[0]]))
    assert not loading._SHARED


def test_torch_pins_batches_by_copying_them(monkeypatch):
    """There may be no GPU here: a copy stands for the pinned one."""
    monkeypatch.setenv("PIPELINE_LOADERS", "0")
    monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)
    shared = loading._SharedBatches(Numbered(), Numbered()[0, 0, 0], 2)
    pinned = pin_memory(shared[0, [(0, 1, 2), (0, 2, 3)]])
    shared[0, [(0, 5, 6), (0, 6, 7)]]  # the slot's next batch
    expected = default_collate([Numbered()[0, 1, 2], Numbered()[0, 2, 3]])
    assert all(torch.equal(a, b) for a, b in zip(pinned, expected, strict=True))
