"""Mixtures: the weights' shares, exact epochs of each dataset, and one sequence for every run of a seed."""

from itertools import islice

import numpy as np
import pytest
from datasets import Dataset

from star_hf.data import (
    ClipDataset,
    EndlessShuffle,
    MixedClips,
    MixtureShuffle,
    SourceDraws,
    mixing as module,
    source_seed,
)


def keys(count, lengths=(5, 3, 50), weights=(2.0, 1.0, 1.0), **options):
    return list(islice(MixtureShuffle(lengths, weights, **options), count))


def test_each_dataset_has_its_share_and_exact_epochs():
    pairs = keys(4000, seed=3)
    for source, share in enumerate((0.5, 0.25, 0.25)):
        own = [(epoch, index) for number, epoch, index in pairs if number == source]
        assert len(own) == pytest.approx(4000 * share, abs=120)
        # as if it were alone
        alone = EndlessShuffle((5, 3, 50)[source], source_seed(3, source))
        assert own == list(islice(alone, len(own)))


def test_one_dataset_is_shuffled_as_ever():
    assert keys(20, [7], [0.3], seed=5, start=3) == [(0, *key) for key in islice(EndlessShuffle(7, 5, 3), 20)]


def test_the_sequence_continues_and_is_shared_by_processes(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 16)  # so that it crosses blocks
    pairs = keys(120, seed=1)
    for start in (0, 1, 15, 16, 17, 50, 64):
        assert keys(50, seed=1, start=start) == pairs[start : start + 50]
    shares = [keys(20, seed=1, start=9, rank=rank, world_size=4) for rank in range(4)]
    assert [key for turn in zip(*shares, strict=True) for key in turn] == pairs[9 : 9 + 80]
    assert keys(120, seed=2) != pairs


def test_draws_are_a_function_of_seed_and_position():
    draws = SourceDraws([1, 2], 7)
    forwards = [draws[position] for position in range(300)]
    assert [draws[position] for position in reversed(range(300))] == forwards[::-1]
    assert [SourceDraws([1, 2], 8)[position] for position in range(300)] != forwards
    assert np.mean(forwards) == pytest.approx(2 / 3, abs=0.1)


def test_items_come_from_the_dataset_that_the_key_names():
    class Reader:
        columns, audio_column = ["value"], "value"

        def __call__(self, row, random):
            return {"value": row["value"], "drawn": int(random.integers(2**30))}

    def numbers(*values, seed):
        return ClipDataset(Dataset.from_dict({"value": values}), Reader(), seed=seed)

    first, second = numbers(1, 2, seed=0), numbers(30, 40, 50, seed=source_seed(0, 1))
    mixed = MixedClips([first, second])
    assert len(mixed) == 5
    assert mixed[1, 4, 2] == second[4, 2] and mixed[0, 4, 1] == first[4, 1]
    # the same epoch and index of two datasets are two samples
    assert first[0, 0]["drawn"] != second[0, 0]["drawn"]
    assert first[0, 0]["noise_seed"] != second[0, 0]["noise_seed"]


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_weights_must_be_positive(weight):
    with pytest.raises(ValueError, match="finite and greater than 0"):
        MixtureShuffle([1, 1], [1.0, weight])
    with pytest.raises(ValueError, match="as many"):
        MixtureShuffle([1, 1], [1.0])
