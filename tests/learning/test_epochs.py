"""Which clips an epoch shows."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.learning.epochs import PADDING, Draws

LABELS = [0] * 12 + [3] * 2 + [7] * 6


def epoch(number, *, labels=LABELS, size=20, by="shuffle", seed=1):
    draws = Draws(labels, batch=size, size=size, epochs=number + 1, by=by, seed=seed, first=number)
    (batch,) = draws
    return batch


@pytest.mark.parametrize("by", ["shuffle", "class_uniform"])
def test_the_same_draws_for_the_same_seed_and_epoch(by):
    order = epoch(2, by=by)
    assert [drawn[:2] for drawn in order] == [(2, position) for position in range(20)]
    assert order == epoch(2, by=by)
    for other in (epoch(3, by=by), epoch(2, by=by, seed=2)):
        assert [clip for *_, clip in other] != [clip for *_, clip in order] and len(other) == 20


@given(st.integers(1, 30), st.integers(1, 50), st.integers(1, 12))
def test_shuffled_epochs_of_any_size_show_every_clip_equally_often(clips, size, epochs):
    shown = [clip for number in range(epochs)
             for *_, clip in epoch(number, labels=[0] * clips, size=size)]  # fmt: skip
    assert len(shown) == size * epochs
    for start in range(0, len(shown) - clips + 1, clips):  # each pass is a permutation
        assert sorted(shown[start : start + clips]) == list(range(clips))
    left = shown[len(shown) // clips * clips :]
    assert len(set(left)) == len(left)


def test_classes_are_drawn_alike_however_many_clips_they_have():
    drawn = [clip for *_, clip in epoch(0, size=9000, by="class_uniform")]
    of_class = Counter(LABELS[clip] for clip in drawn)
    assert set(of_class) == {0, 3, 7}
    assert all(abs(count - 3000) < 5 * np.sqrt(3000 * 2 / 3) for count in of_class.values())
    of_clip = Counter(drawn)
    assert all(abs(of_clip[clip] - 250) < 5 * np.sqrt(250) for clip in range(12))
    assert all(abs(of_clip[clip] - 1500) < 5 * np.sqrt(1500) for clip in (12, 13))


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 4), st.integers(1, 3), st.data())
def test_processes_share_out_every_batch(size, batch, world, epochs, data):
    options = dict(batch=batch, size=size, epochs=epochs, by="shuffle", seed=1)
    alone = Draws([0] * 20, **options)
    first = data.draw(st.integers(0, len(alone)))
    ranks = [Draws([0] * 20, rank=rank, world=world, first=first, **options)
             for rank in range(world)]  # fmt: skip
    assert {len(list(rank)) for rank in ranks} == {len(alone) - first}
    for whole, *shares in list(zip(list(alone)[first:], *ranks, strict=True)):
        drawn = [draw for share in shares for draw in share]
        assert [draw for draw in drawn if draw[1] != PADDING] == whole
        assert max(map(len, shares)) <= ranks[0].own
        assert len(whole) < batch or len(shares[0]) == ranks[0].own
        assert all(shares) and {draw[2] for draw in drawn} == {draw[2] for draw in whole}
