"""The audit as one HTML file: pictures inline, light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from .decoding import DISTANCES
from .html_frame import figure_html, grid_html, html_page, provenance_html
from .residuals import FLOOR_DB, REPLACEMENT_NOISE, ChannelResiduals
from .table import table_html
from .writing import write_text


def write_page(
    document: dict[str, Any],
    path: str | Path,
    residuals: Mapping[str, ChannelResiduals | None] | None = None,
    *,
    pictures: bool = True,
) -> Path:
    """Write the page of a report, the same numbers as its JSON.

    Args:
        document: `describe_run`'s facts with "autoencoders", the reports of `audit_codec` by name.
        residuals: their residual mel spectrograms by name.
        pictures: without them the page is its table.
    """
    reports = document["autoencoders"]
    parts = [_introduction(document), "<h2>Numbers</h2>", table_html(reports), _notes(reports)]
    if pictures:
        parts += _curves(reports)
        for number, (name, maps) in enumerate((residuals or {}).items()):
            if maps is not None:
                parts.append(_residuals(name, number, maps))
    parts += [_bad_files(reports), provenance_html(document)]
    return write_text(path, html_page(f"Latent audit: {', '.join(reports)}", parts))


def _introduction(document: dict[str, Any]) -> str:
    lines = []
    for name, report in document["autoencoders"].items():
        latents, decoder = report["latents"], report["decoder"]
        decoded = (
            "The decoder was not run."
            if decoder is None
            else f"The decoder's curves are means over {decoder['num_clips']} of these clips, up to "
            f"{document['settings']['decoded_seconds']:g} s of each, at {decoder['metric_rate']} Hz."
        )
        lines.append(
            f"<li><b>{escape(name)}</b>: {escape(report['class'])}, {report['sampling_rate']} Hz, "
            f"{report['audio_channels']} audio channel(s), {latents['channels']} latent channels at "
            f"{latents['frame_rate']:.2f} frames/s, {report['parameters'] / 1e6:.2f} M parameters. "
            f"{report['num_clips']} clips, {report['seconds'] / 60:.1f} min, {latents['num_frames']} frames. "
            f"{decoded}</li>"
        )
    pieces = document["settings"]["piece_seconds"]
    return (
        f"<p>Measured on <b>{escape(str(document['dataset']))}</b> (split {escape(str(document['split']))}, "
        f"{document['num_rows']} rows). Latents are the posteriors' means; clips longer than {pieces:g} s "
        f"were encoded in pieces, each by itself.</p>\n<ul>{''.join(lines)}</ul>"
    )


def _curves(reports: dict[str, Any]) -> list[str]:
    # matplotlib is needed for the pictures only
    from . import pictures

    kinds = sorted({report["latents"]["profile"]["kind"] for report in reports.values()})
    parts = ["<h2>What each channel carries</h2>"]
    for kind in kinds:
        parts.append(figure_html(pictures.profile_picture(reports, kind), _PROFILE[kind]))
    if any(report["decoder"] for report in reports.values()):
        replaced = "; ".join(
            f"{escape(name)}: {report['decoder']['replaced_by']}"
            for name, report in reports.items()
            if report["decoder"]
        )
        parts += [
            "<h2>Truncation</h2>",
            _pair(
                lambda distance: pictures.truncation_picture(reports, distance), _TRUNCATION + replaced + "."
            ),
            "<h2>Noise in the latents</h2>",
            _pair(lambda distance: pictures.noise_picture(reports, distance), _NOISE),
        ]
    parts += ["<h2>Dimensions in use</h2>", figure_html(pictures.variance_picture(reports), _VARIANCE)]
    if any(report["latents"]["radial_power"] for report in reports.values()):
        parts += [
            "<h2>Spectrum of the latent map</h2>",
            figure_html(pictures.spectrum_picture(reports), _SPECTRUM),
        ]
    parts += [
        "<h2>Spread of the latents</h2>",
        figure_html(pictures.spread_picture(reports), _SPREAD),
        "<h2>Change over time</h2>",
        figure_html(pictures.smoothness_picture(reports), _SMOOTHNESS),
    ]
    return parts


def _residuals(name: str, number: int, maps: ChannelResiduals) -> str:
    from .pictures import residual_picture

    caption = (
        f"Each tile is one channel (its number above it) of {escape(maps.clip_name)}, {maps.seconds:.1f} s: "
        f"the mel spectrogram of the reconstruction, low frequencies at the bottom, less the one with the "
        f"channel replaced by noise of {REPLACEMENT_NOISE:g} of its standard deviation. Red is what the "
        f"channel adds, blue what it holds back; a pale tile is a channel that the decoder barely uses here. "
        f"Levels more than {FLOOR_DB:g} dB below the loudest point do not count."
    )
    picture = residual_picture(maps, f"residual-{number}")
    heading = f"<h2>What each channel adds to the sound: {escape(name)}</h2>"
    return f"{heading}\n<figure>{picture}<figcaption>{caption}</figcaption></figure>"


def _pair(picture: Callable[[str], str], caption: str) -> str:
    return grid_html([picture(distance) for distance in DISTANCES], caption)


def _notes(reports: dict[str, Any]) -> str:
    notes = [
        f"<li>{escape(name)}: {escape(note)}</li>"
        for name, report in reports.items()
        for note in [*report["latents"]["notes"], *_probe_note(report)]
    ]
    return f"<ul class='soft'>{''.join(notes)}</ul>" if notes else ""


def _probe_note(report: dict[str, Any]) -> list[str]:
    probe = report["probe"]
    if probe is None or probe["accuracy"] is not None:
        return []
    return [f"No linear probe: {probe['reason']}."]


def _bad_files(reports: dict[str, Any]) -> str:
    bad = {
        (entry["name"], entry["reason"]): None for report in reports.values() for entry in report["bad_files"]
    }
    if not bad:
        return ""
    listing = "".join(f"<li>{escape(name)}: {escape(reason)}</li>" for name, reason in bad)
    return f"<h2>Files that were left out ({len(bad)})</h2><ul>{listing}</ul>"


_PROFILE = {
    "KL": "How much the encoder says in each channel, thin, and the mean of each eighth of the channels, "
    "bold. A line that falls from left to right is an ordered latent space; channels at 0 carry nothing.",
    "capacity": "How much could pass each channel through the noise that the decoder was made for, thin, and "
    "the mean of each eighth of the channels, bold: an upper bound, not a KL.",
    "variance": "How far each channel swings, thin, and the mean of each eighth of the channels, bold. These "
    "latents have no noise of their own, so that no rate can be told.",
}
_TRUNCATION = (
    "How far the sound is from the original (lower is closer) when only some channels are kept: solid the "
    "first k, dashed the last k; at the right end all are kept. In an ordered latent space the solid line "
    "falls early and the dashed one late; without order both fall alike. Channels that are left out are "
    "replaced by, "
)
_NOISE = (
    "How far the sound is from the original (lower is closer) when noise is added to the latents, in units "
    "of each channel's standard deviation. A line that stays flat at the left is a decoder that forgives the "
    "small errors of a generator."
)
_VARIANCE = (
    "How many directions hold the latents' variance: the line says what share the strongest components have "
    "together, dotted where it reaches 95%. A line that shoots up leaves most dimensions unused; a straight "
    "diagonal uses all alike."
)
_SPECTRUM = (
    "Power of the latents as a picture (time × channel) over its fineness, both axes logarithmic. White "
    "noise is flat; a steep line means that neighbours in time and channel are alike. Its slope is −α."
)
_SPREAD = (
    "Mean (dotted) and standard deviation (solid) of each channel over all frames. A prior N(0, I) is met "
    "when the means lie at 0 and the standard deviations, together with the posterior's own noise, at 1."
)
_SMOOTHNESS = (
    "Mean squared difference of neighbouring frames over twice the variance. 1, the dashed line, is white "
    "noise, near 0 is a channel that changes slowly, above 1 one that flips from frame to frame."
)
