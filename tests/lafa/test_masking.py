"""Channel-span masks: their sizes, their distribution, and whose random numbers they take."""

from collections import Counter
from itertools import product

import pytest
import torch

from star_hf.lafa import channel_causal_mask, sample_channel_mask
from star_hf.lafa.masking import _span_lengths

DRAWS = 2000


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fixed(**changes):
    return {"random_length": False, "all_probability": 0.0, **changes}


def placements(channels: int, lengths: tuple[int, ...]) -> list[tuple[bool, ...]]:
    """Every way to put spans of these lengths into a row in this order, without overlap."""
    masks = []
    for starts in product(range(channels), repeat=len(lengths)):
        ends = [start + length for start, length in zip(starts, lengths, strict=True)]
        if ends[-1] <= channels and all(end <= start for end, start in zip(ends, starts[1:], strict=False)):
            spans = list(zip(starts, ends, strict=True))
            masks.append(tuple(any(a <= c < b for a, b in spans) for c in range(channels)))
    return masks


def assert_frequencies(counts: Counter, expected: dict) -> None:
    """Each outcome as often as expected, within five standard deviations of a binomial."""
    total = sum(counts.values())
    assert set(counts) <= set(expected)
    for outcome, probability in expected.items():
        deviation = (total * probability * (1 - probability)) ** 0.5
        assert abs(counts[outcome] - total * probability) <= 5 * deviation + 1e-9, outcome


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.3, 0.5, 0.77, 1.0])
@pytest.mark.parametrize("channels", [1, 7, 64])
def test_the_masked_length_is_exact(ratio, channels):
    for seed in range(20):
        mask = sample_channel_mask(channels, ratio, 5, **fixed(), generator=generator(seed))
        assert mask.shape == (channels,) and mask.dtype == torch.bool
        assert int(mask.sum()) == int(ratio * channels)


def test_spans_are_placed_uniformly():
    """Six channels, three masked in one or two spans: of the lengths (1, 2) or (2, 1) where there are two."""
    expected: dict = {}
    for lengths, share in (((3,), 0.5), ((1, 2), 0.25), ((2, 1), 0.25)):
        masks = placements(6, lengths)
        for mask in masks:
            expected[mask] = expected.get(mask, 0.0) + share / len(masks)
    draw = generator()
    counts = Counter(
        tuple(sample_channel_mask(6, 0.5, 2, **fixed(), generator=draw).tolist()) for _ in range(DRAWS)
    )
    assert_frequencies(counts, expected)


@pytest.mark.parametrize(("total", "spans"), [(9, 4), (5, 4), (8, 4), (7, 3)])
def test_every_partition_within_the_cap_is_equally_likely(total, spans):
    cap = -(-total // spans)
    fitting = [row for row in product(range(1, cap + 1), repeat=spans) if sum(row) == total]
    draw = generator()
    counts = Counter(tuple(_span_lengths(total, spans, draw)) for _ in range(DRAWS))
    assert_frequencies(counts, {row: 1 / len(fitting) for row in fitting})


def test_without_wrapping_the_ends_are_masked_less_often():
    """A span of 3 in 8 channels has 6 starts, of which min(c + 1, 3, 8 - c) cover channel c."""
    draw = generator()
    masks = [sample_channel_mask(8, 3 / 8, 1, **fixed(), generator=draw) for _ in range(DRAWS)]
    expected = torch.tensor([1, 2, 3, 3, 3, 3, 2, 1]) / 6
    torch.testing.assert_close(torch.stack(masks).float().mean(dim=0), expected, atol=0.05, rtol=0)


def test_a_random_length_is_uniform_up_to_the_ratio():
    draw = generator()
    settings = {"random_length": True, "all_probability": 0.0}
    counts = Counter(
        int(sample_channel_mask(8, 0.5, 3, **settings, generator=draw).sum()) for _ in range(DRAWS)
    )
    assert_frequencies(counts, dict.fromkeys(range(5), 0.2))


def test_all_channels_are_masked_with_their_probability():
    draw = generator()
    masks = [
        sample_channel_mask(8, 0.5, random_length=False, all_probability=0.2, generator=draw)
        for _ in range(DRAWS)
    ]
    assert_frequencies(Counter(int(mask.sum()) for mask in masks), {8: 0.2, 4: 0.8})


def test_masks_follow_the_generator_and_nothing_else():
    before = torch.get_rng_state()
    first = [sample_channel_mask(32, generator=generator(seed)) for seed in range(5)]
    torch.manual_seed(7)
    again = [sample_channel_mask(32, generator=generator(seed)) for seed in range(5)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert len({tuple(mask.tolist()) for mask in first}) > 1
    torch.set_rng_state(before)
    sample_channel_mask(32, generator=generator())
    assert torch.equal(torch.get_rng_state(), before)


def test_settings_leave_the_other_draws_alone():
    """A mask that is not of all channels is the same, whatever the probability of one that is."""
    for seed in range(10):
        without, with_all = (
            sample_channel_mask(32, all_probability=p, generator=generator(seed)) for p in (0.0, 0.3)
        )
        assert torch.equal(without, with_all) or with_all.all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 0}, "`channels` must be at least 1, got 0"),
        ({"max_spans": 0}, "`max_spans` must be at least 1, got 0"),
        ({"mask_ratio": 1.5}, r"`mask_ratio` must be in \[0, 1\], got 1.5"),
        ({"all_probability": -0.1}, r"`all_probability` must be in \[0, 1\], got -0.1"),
        ({"mask_ratio": float("nan")}, "`mask_ratio`.*nan"),
    ],
)
def test_bad_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        sample_channel_mask(**{"channels": 8, **arguments})


def test_a_group_sees_itself_and_those_before():
    expected = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 1]], dtype=torch.bool)
    assert torch.equal(channel_causal_mask(3), expected)
