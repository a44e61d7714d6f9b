"""The page's longer sentences and small pieces of HTML, and errors in words for a visitor."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape

import gradio as gr
import torch

from .studio import Clip, LatentClip, Reconstruction, Step

ERROR_SECONDS = 20

METRIC_WORDS = {
    "stft_distance": (
        "STFT distance",
        "How far the spectra are apart, at three resolutions. 0 is a copy; lower is closer.",
    ),
    "mel_distance": (
        "Mel distance",
        "The same on the ear's frequency scale. 0 is a copy; lower is closer.",
    ),
    "si_sdr": (
        "SI-SDR",
        "How alike the waveforms are, phases included. A codec that keeps the sound but not its phases is "
        "far below 0 dB here, and may sound close all the same.",
    ),
    "loudness_difference": (
        "Loudness difference",
        "How much louder (+) or quieter (−) the reconstruction is. Nearer to 0 is better.",
    ),
}
LATENTS = (
    "An ordered autoencoder puts the structure of a sound into its first latent channels and its texture "
    "into the last. Encode a clip, then decode it with the first channels alone."
)
METRIC_UNITS = {"si_sdr": " dB", "loudness_difference": " LU"}


@contextmanager
def errors_for_visitors() -> Iterator[None]:
    """Turn what fails into one short message on the page; what nobody expected is logged in full."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise _shown(str(error)) from None
    except (MemoryError, torch.OutOfMemoryError):
        raise _shown("There is not enough memory for this. Try fewer seconds.") from None
    except gr.Error:
        raise
    except Exception as error:
        logging.getLogger(__name__).exception("The demo failed.")
        raise _shown(f"This failed ({type(error).__name__}). The terminal of the demo has details.") from None


def _shown(message: str) -> gr.Error:
    # The page reads it as HTML, and a message may hold a visitor's file name.
    return gr.Error(escape(message, quote=False), duration=ERROR_SECONDS, print_exception=False)


def position(step: Step) -> str:
    text = f"step {step.number} of {step.total}"
    return text if step.variations == 1 else f"{text}, variation {step.variation} of {step.variations}"


def step_bar(step: Step) -> str:
    """A progress bar with the sampler's real step."""
    text = position(step).capitalize()
    if step.number == step.total:
        text += ": decoding"
    done = (step.variation - 1) * step.total + step.number
    return (
        f'<div class="star-progress"><span>{text}</span>'
        f'<progress max="{step.variations * step.total}" value="{done}" aria-label="{text}"></progress></div>'
    )


def done_note(prompt: str, clips: Sequence[Clip], seconds: float) -> str:
    count = "1 clip" if len(clips) == 1 else f"{len(clips)} clips"
    return note(f"{prompt}: {count} of {clips[0].seconds:.4g} s in {seconds:.1f} s.")


def note(text: str) -> str:
    """A line that screen readers read out."""
    return f'<div class="star-note" role="status">{escape(text)}</div>'


def metrics_table(result: Reconstruction) -> str:
    rows = []
    for name, (title, meaning) in METRIC_WORDS.items():
        value = result.scores.values.get(name)
        shown = "–" if value is None else f"{value:.2f}{METRIC_UNITS.get(name, '')}".replace("-", "−")
        if value is None:
            meaning = "Not defined for a clip that is silent, or this short."
        rows.append((title, shown, meaning))
    if result.rate_kbps is not None:
        rows.append(
            (
                "Rate",
                f"{result.rate_kbps:.2f} kbit/s",
                "How much the latents tell of this clip (their KL from the prior).",
            )
        )
    body = "".join(
        f'<tr><th scope="row">{title}<small>{escape(meaning)}</small></th><td>{shown}</td></tr>'
        for title, shown, meaning in rows
    )
    return (
        '<table class="star-metrics"><thead><tr><th scope="col">Metric</th><th scope="col">Value</th></tr>'
        f"</thead><tbody>{body}</tbody></table>"
    )


def share_note(clip: LatentClip, count: int) -> str:
    """How much of the clip's information, or variance, the first channels hold."""
    profile, channels = clip.profile, len(clip.profile.values)
    total = sum(profile.values)
    share = sum(profile.values[:count]) / total if total > 0 else 0.0
    what = "the variance"
    if profile.rate_kbps is not None:
        what = f"{profile.rate_kbps:.2f} kbit/s"
    return note(f"The first {count} of {channels} channels carry {share:.0%} of {what}.")
