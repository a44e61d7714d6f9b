"""The table of the audit's numbers, autoencoders side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import Any

Report = dict[str, Any]


def _latents(key: str) -> Callable[[Report], Any]:
    return lambda report: report["latents"][key]


def _profile(key: str) -> Callable[[Report], Any]:
    return lambda report: report["latents"]["profile"][key]


def _decoder(curve: str, distance: str, index: int) -> Callable[[Report], Any]:
    return lambda report: None if report["decoder"] is None else report["decoder"][curve][distance][index]


def _probe(key: str) -> Callable[[Report], Any]:
    return lambda report: None if report["probe"] is None else report["probe"][key]


def _rate(kind: str) -> Callable[[Report], Any]:
    return lambda report: _profile("rate_kbps")(report) if _profile("kind")(report) == kind else None


#: Label, what it says, its value, its format.
ROWS: tuple[tuple[str, str, Callable[[Report], Any], str], ...] = (
    ("Rate (KL), kbit/s", "what the posterior says beyond the prior", _rate("KL"), ".2f"),
    ("Capacity, kbit/s", "upper bound through the designed noise, not a KL", _rate("capacity"), ".2f"),
    ("Bits per frame", "of the KL or capacity, all channels", _profile("bits_per_frame"), ".1f"),
    (
        "Order of the profile",
        "rank correlation of channel number and profile: −1 falls throughout, 0 has no order",
        _profile("rank_correlation"),
        ".3f",
    ),
    (
        "Falling neighbours",
        "share of channels that carry less than the one before",
        _profile("falling_share"),
        ".0%",
    ),
    ("Head/tail", "profile of the first eighth over that of the last", _profile("head_tail_ratio"), ".2f"),
    ("STFT distance", "all channels, no noise; lower is closer", _decoder("noise", "stft", 0), ".3f"),
    ("Mel distance", "all channels, no noise; lower is closer", _decoder("noise", "mel", 0), ".3f"),
    ("STFT distance, noise 0.1", "noise of 0.1 std in the latents", _decoder("noise", "stft", 2), ".3f"),
    ("STFT distance, noise 0.5", "noise of 0.5 std in the latents", _decoder("noise", "stft", 4), ".3f"),
    (
        "Effective dimensions",
        "principal components with 95% of the variance",
        _latents("effective_dimensions"),
        "d",
    ),
    ("Participation ratio", "(Σλ)²/Σλ² of the covariance", _latents("participation_ratio"), ".1f"),
    ("LC", "mean correlation of two channels: 0 independent", _latents("latent_correlation"), ".3f"),
    (
        "LPI (λ = 0.06)",
        "how well neighbouring channels predict a channel: 0 not, 1 fully",
        _latents("local_predictability"),
        ".3f",
    ),
    (
        "Spectral decay α",
        "0 white; larger is smoother over time and channel",
        _latents("spectral_decay"),
        ".2f",
    ),
    (
        "Aggregate KL per channel, nats",
        "of the Gaussian fitted to all latents from N(0, I)",
        _latents("aggregate_kl_per_channel"),
        ".3f",
    ),
    (
        "Frame-to-frame difference",
        "1 white noise, 0 still; mean over channels",
        _latents("temporal_difference_ratio"),
        ".3f",
    ),
    ("Linear probe", "accuracy of the label from mean and std of the latents", _probe("accuracy"), ".1%"),
    ("… chance", "share of the most frequent label", _probe("chance"), ".1%"),
)


def table_html(reports: Mapping[str, Report]) -> str:
    """One row for each number that some autoencoder has, one column for each autoencoder."""
    head = "".join(f"<th>{escape(name)}</th>" for name in reports)
    lines = [f"<tr><th></th>{head}</tr>"]
    for label, meaning, value, form in ROWS:
        values = [value(report) for report in reports.values()]
        if all(entry is None for entry in values):
            continue
        cells = "".join(f'<td class="number">{_formatted(entry, form)}</td>' for entry in values)
        lines.append(f"<tr><td>{escape(label)}<small>{escape(meaning)}</small></td>{cells}</tr>")
    return f'<div class="scroll"><table>{"".join(lines)}</table></div>'


def _formatted(value: Any, form: str) -> str:
    return "–" if value is None else format(value, form)
