"""The audit's curves as PNG for a card, drawn from its JSON and from nothing else.

Each picture carries a digest of the numbers that it shows, so that one of other numbers is found out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

PROFILE_PICTURE, TRUNCATION_PICTURE = "audit_profile.png", "audit_truncation.png"
DPI = 110
COLORS = ("#0b6e99", "#d9730d")
_DISTANCES = {"stft": "STFT", "mel": "mel"}
_DIGEST_KEY = "Source"  # of PNG's own list of keywords


def pictures_of(report: Mapping[str, Any]) -> dict[str, Callable[[Any], None]]:
    """The pictures of one autoencoder's report in audit.json, by file name, and what draws each."""
    pictures = {PROFILE_PICTURE: lambda figure: _draw_profile(figure, report["latents"]["profile"])}
    if report["decoder"] is not None:
        pictures[TRUNCATION_PICTURE] = lambda figure: _draw_truncation(figure, report["decoder"])
    return pictures


def outdated_pictures(report: Mapping[str, Any], folder: Path) -> list[str]:
    """Names of the pictures that are missing in `folder` or show other numbers."""
    return [name for name in pictures_of(report) if read_digest(folder / name) != digest(name, report)]


def draw_pictures(report: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw the pictures that are missing in `folder` or show other numbers; returns those drawn.

    Raises `ValueError` where matplotlib is needed and not installed.
    """
    outdated = outdated_pictures(report, folder)
    if not outdated:
        return []
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError('the pictures of audit.json need matplotlib: pip install "star-hf[eval]"') from None
    for name in outdated:
        figure = Figure(figsize=(7.5, 3.4), layout="constrained")
        pictures_of(report)[name](figure)
        target = folder / name
        temporary = target.with_name(f".{name}.tmp")
        try:
            metadata = {"Software": None, _DIGEST_KEY: digest(name, report)}
            figure.savefig(temporary, format="png", dpi=DPI, metadata=metadata)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    return [folder / name for name in outdated]


def digest(name: str, report: Mapping[str, Any]) -> str:
    """Of the numbers that a picture shows."""
    shown = report["latents"]["profile"] if name == PROFILE_PICTURE else report["decoder"]
    return hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()


def read_digest(file: Path) -> str | None:
    """The digest that a picture carries; None for a file that is not there or carries none."""
    if not file.is_file():
        return None
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            return image.info.get(_DIGEST_KEY)
    except UnidentifiedImageError:
        return None


def _draw_profile(figure: Any, profile: Mapping[str, Any]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes = figure.subplots()
    values, eighths = profile["values"], profile["eighths"]
    axes.bar(range(1, len(values) + 1), values, color=COLORS[0], alpha=0.35, width=0.9)
    # The eighths as numpy.array_split cuts them: the first ones take what is left over.
    start, centres = 0, []
    for number in range(len(eighths)):
        size = len(values) // len(eighths) + (number < len(values) % len(eighths))
        centres.append(start + (size + 1) / 2)
        start += size
    axes.plot(centres, eighths, "o-", color=COLORS[0], linewidth=2, markersize=4, label="mean of each eighth")
    unit = "variance" if profile["kind"] == "variance" else f"{profile['kind']}  [nats per frame]"
    axes.set(xlabel="latent channel", ylabel=unit, ylim=(0, None), title="What each latent channel carries")
    axes.set_xlim(0.25, len(values) + 0.75)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)
    _finish(axes)


def _draw_truncation(figure: Any, decoder: Mapping[str, Any]) -> None:
    from matplotlib.ticker import ScalarFormatter

    panels = figure.subplots(1, len(_DISTANCES))
    for axes, (key, name) in zip(panels, _DISTANCES.items(), strict=True):
        head, tail = decoder["truncation_head"], decoder["truncation_tail"]
        axes.plot(head["x"], head[key], "o-", color=COLORS[0], markersize=4, label="first k channels")
        axes.plot(tail["x"], tail[key], "s--", color=COLORS[1], markersize=4, label="last k channels")
        axes.set(xlabel="channels kept, k", ylabel=f"{name} distance", xscale="log")
        axes.set_ylim(0, None)
        powers = [2**power for power in range(12)]
        axes.set_xticks([tick for tick in powers if head["x"][0] <= tick <= head["x"][-1]])
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.minorticks_off()
        _finish(axes)
    panels[0].legend(frameon=False)
    figure.suptitle("Distance from the original when only some channels are kept")


def _finish(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
