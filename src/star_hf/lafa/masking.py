"""Which latent channels LAFA's encoder may not see, and which channels attend to which.

Why spans: an inpainting that smooths over the channels, A_M z = Mz + (I − M)Sz, errs by
E‖A_M z − z‖² = zᵀΓz with Γ = (S − I)ᵀ E[I − M] (S − I). For a circulant S with response H(k) and spans of
width w placed uniformly on the ring of C channels, E[I − M] = w/C · I, so that Γ has the eigenvalues
w/C · |1 − H(k)|²: a penalty of high channel frequencies wherever H falls with k (proposition 1 of LAFA). The
paper writes Γ as E[(I − M)(S − I)ᵀ(S − I)(I − M)] and the eigenvalues with "≈"; in the order that the loss
gives, they are exact. The spans drawn here do not wrap around, nor do the paper's: channels near the ends are
masked less often.
"""

import math
from functools import cache

import torch


def sample_channel_mask(
    channels: int,
    mask_ratio: float = 1.0,
    max_spans: int = 4,
    *,
    random_length: bool = True,
    all_probability: float = 0.1,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """The masked channels of one example, `(channels,)` bool: spans without overlap (LAFA, section 4.1).

    L = ⌊mask_ratio · channels⌋ channels are masked in M ~ Uniform{1, …, max_spans} spans. Their lengths sum
    to L and are at most ⌈L/M⌉ each, as the paper has it. That leaves little to chance, for a sum of M⌈L/M⌉ is
    less than M away: every tuple of lengths from 1 on that fulfils both is equally likely, and so is then
    every placement of these spans in their order. Spans may touch. Where L is smaller than M there are L
    spans of one channel.

    Args:
        mask_ratio: ρ in [0, 1].
        max_spans: m.
        random_length: draw the masked length uniformly from 0, …, L, as in the paper's study of ρ (section
            5.4), whose best ρ is 1. Without it ρ = 1 always masks everything.
        all_probability: chance that all channels are masked instead, for which the paper gives no number.
        generator: on the CPU; one for each example makes its mask independent of its batch.

    Raises:
        ValueError: an argument is out of range.
    """
    for name, value in (("channels", channels), ("max_spans", max_spans)):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}")
    for name, value in (("mask_ratio", mask_ratio), ("all_probability", all_probability)):
        if not 0 <= value <= 1:
            raise ValueError(f"`{name}` must be in [0, 1], got {value}")
    # always the same numbers in the same order, so that one setting does not change what another one draws
    masks_all = float(torch.rand((), generator=generator)) < all_probability
    total = math.floor(mask_ratio * channels)
    drawn_total = _below(total + 1, generator)
    total = drawn_total if random_length else total
    spans = min(1 + _below(max_spans, generator), total)
    if masks_all:
        return torch.ones(channels, dtype=torch.bool)
    mask = torch.zeros(channels, dtype=torch.bool)
    if spans == 0:
        return mask
    # a placement is a choice of places in a row of the visible channels and of the spans as one place each
    places = torch.randperm(channels - total + spans, generator=generator)[:spans].sort().values
    grown = 0
    for place, length in zip(places.tolist(), _span_lengths(total, spans, generator), strict=True):
        mask[place + grown : place + grown + length] = True
        grown += length - 1
    return mask


def channel_causal_mask(groups: int, device: torch.device | str | None = None) -> torch.Tensor:
    """Which groups of channels each one may attend to, `(groups, groups)` bool: its own and earlier ones."""
    return torch.ones(groups, groups, dtype=torch.bool, device=device).tril()


def _span_lengths(total: int, spans: int, generator: torch.Generator | None) -> list[int]:
    """Uniformly one of the ways to write `total` as `spans` numbers from 1 to ⌈total / spans⌉, in order."""
    longest = math.ceil(total / spans)
    missing = spans * longest - total  # shared out over the spans, each stays at least 1 long
    lengths = []
    for others in reversed(range(spans)):
        ways = [
            _compositions(others, missing - share, longest - 1)
            for share in range(min(missing, longest - 1) + 1)
        ]
        weights = torch.tensor(ways, dtype=torch.float64)
        share = int(torch.multinomial(weights, 1, generator=generator))
        lengths.append(longest - share)
        missing -= share
    return lengths


@cache
def _compositions(parts: int, total: int, largest: int) -> int:
    """In how many ways `parts` numbers from 0 to `largest`, in order, sum to `total`."""
    if parts == 0:
        return int(total == 0)
    return sum(_compositions(parts - 1, total - part, largest) for part in range(min(total, largest) + 1))


def _below(limit: int, generator: torch.Generator | None) -> int:
    return int(torch.randint(limit, (), generator=generator))
