"""What a metric of `(prediction, reference)` demands, and the one place where a pair is converted to it."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Literal

import torch
from torch.nn import functional

from ..audio import convert_channels, resample as resample_waveform

Reduction = Literal["mean", "none"]
LengthPolicy = Literal["equal", "shorter", "reference"]


@dataclass(frozen=True)
class PreparedPair:
    """`prediction` and `reference` of one shape `(1, channels, samples)` at `sampling_rate` Hz."""

    prediction: torch.Tensor
    reference: torch.Tensor
    sampling_rate: int


def prepare_pair(
    prediction: torch.Tensor,
    reference: torch.Tensor,
    prediction_rate: int,
    reference_rate: int,
    *,
    resample: int | Literal["reference"] | None = None,
    channels: int | Literal["reference"] | None = None,
    lengths: LengthPolicy = "equal",
) -> PreparedPair:
    """Bring two clips `(channels, samples)` to one rate, layout and length, each only as far as asked.

    Args:
        resample: a rate in Hz for both, or "reference" for the reference's; None refuses different rates.
        channels: a number for both, or "reference" for the reference's; None refuses different layouts. Mono
            is repeated, stereo becomes mono as the mean of left and right.
        lengths: "shorter" cuts both to the shorter one, "reference" cuts or zero-pads the prediction to the
            reference's length, "equal" refuses different lengths.

    Raises `ValueError` or `TypeError` naming the argument when a clip is not a finite floating-point tensor
    `(channels, samples > 0)`, when rates, layouts or lengths differ and no conversion was asked for, and
    `AudioError` for a layout that cannot be converted.
    """
    check_waveform("prediction", prediction, "(channels, samples > 0)")
    check_waveform("reference", reference, "(channels, samples > 0)")
    for name, rate in (("prediction_rate", prediction_rate), ("reference_rate", reference_rate)):
        check_rate(name, rate)
    if lengths not in ("equal", "shorter", "reference"):
        raise ValueError(f"`lengths` must be 'equal', 'shorter' or 'reference', got {lengths!r}.")

    rate = _common_rate(prediction_rate, reference_rate, resample)
    prediction = resample_waveform(prediction, prediction_rate, rate)
    reference = resample_waveform(reference, reference_rate, rate)
    layout = _common_layout(prediction.shape[0], reference.shape[0], channels)
    prediction, reference = convert_channels(prediction, layout), convert_channels(reference, layout)
    prediction, reference = _to_one_length(prediction, reference, lengths)
    return PreparedPair(prediction[None], reference[None], rate)


def check_pair(
    prediction: torch.Tensor, reference: torch.Tensor, longest_fft: int = 0, channels: int | None = None
) -> None:
    """Raise unless both are finite waveforms `(batch, channels, samples)` of one shape.

    `longest_fft` demands enough samples for a centred transform of this size, `channels` a layout.
    """
    check_waveform("prediction", prediction, "(batch, channels, samples > 0)")
    check_waveform("reference", reference, "(batch, channels, samples > 0)")
    if prediction.shape != reference.shape:
        raise ValueError(
            "`prediction` and `reference` must have one shape (batch, channels, samples), got "
            f"{tuple(prediction.shape)} and {tuple(reference.shape)}; `prepare_pair` converts."
        )
    if channels is not None and prediction.shape[1] != channels:
        raise ValueError(
            f"`prediction` and `reference` must have {channels} channel(s), got {prediction.shape[1]}; "
            "`prepare_pair` converts."
        )
    # The transform reflects half a window at each end.
    if longest_fft and prediction.shape[-1] <= longest_fft // 2:
        raise ValueError(
            f"`prediction` and `reference` have {prediction.shape[-1]} samples; an FFT of {longest_fft} "
            f"needs more than {longest_fft // 2}."
        )


def check_waveform(name: str, waveform: torch.Tensor, layout: str) -> None:
    """Raise unless `waveform` is a finite floating-point tensor with as many dimensions as `layout` names."""
    if not isinstance(waveform, torch.Tensor) or not waveform.is_floating_point():
        kind = waveform.dtype if isinstance(waveform, torch.Tensor) else type(waveform).__name__
        raise TypeError(f"`{name}` must be a floating-point tensor, got {kind}.")
    if waveform.ndim != layout.count(",") + 1 or waveform.numel() == 0:
        raise ValueError(f"`{name}` must be {layout}, got {tuple(waveform.shape)}.")
    if not torch.isfinite(waveform).all():
        raise ValueError(f"`{name}` holds NaN or infinite samples.")


def check_rate(name: str, rate: int) -> None:
    """Raise unless `rate` is a positive integer number of Hz."""
    if isinstance(rate, bool) or not isinstance(rate, Integral) or rate <= 0:
        raise ValueError(f"`{name}` must be > 0 Hz and an integer, got {rate!r}.")


def refuse_clips(name: str, clips: torch.Tensor, problem: str) -> None:
    """Raise `ValueError` naming the clips where `clips` `(batch,)` is true."""
    if clips.any():
        raise ValueError(f"`{name}` is {problem} in clips {clips.nonzero().flatten().tolist()}.")


def reduce_clips(values: torch.Tensor, reduction: Reduction) -> torch.Tensor:
    """The mean over clips, the first dimension, or the values themselves."""
    if reduction not in ("mean", "none"):
        raise ValueError(f"`reduction` must be 'mean' or 'none', got {reduction!r}.")
    return values.mean(dim=0) if reduction == "mean" else values


def _common_rate(prediction_rate: int, reference_rate: int, wanted: int | str | None) -> int:
    if wanted == "reference":
        return reference_rate
    if wanted is not None:
        if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted <= 0:
            raise ValueError(f"`resample` must be None, 'reference' or a rate > 0 Hz, got {wanted!r}.")
        return wanted
    if prediction_rate != reference_rate:
        raise ValueError(
            f"`prediction` is at {prediction_rate} Hz and `reference` at {reference_rate} Hz; "
            "`resample` (a rate, or 'reference') converts them."
        )
    return reference_rate


def _common_layout(prediction: int, reference: int, wanted: int | str | None) -> int:
    if wanted == "reference":
        return reference
    if wanted is not None:
        if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 1:
            raise ValueError(f"`channels` must be None, 'reference' or a number >= 1, got {wanted!r}.")
        return wanted
    if prediction != reference:
        raise ValueError(
            f"`prediction` has {prediction} channel(s) and `reference` {reference}; "
            "`channels` (a number, or 'reference') converts them."
        )
    return reference


def _to_one_length(
    prediction: torch.Tensor, reference: torch.Tensor, policy: str
) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = prediction.shape[-1], reference.shape[-1]
    if lengths[0] == lengths[1]:
        return prediction, reference
    if policy == "equal":
        raise ValueError(
            f"`prediction` has {lengths[0]} samples and `reference` {lengths[1]}; "
            "`lengths` ('shorter' or 'reference') converts them."
        )
    if policy == "shorter":
        return prediction[..., : min(lengths)], reference[..., : min(lengths)]
    padded = functional.pad(prediction, (0, max(0, lengths[1] - lengths[0])))
    return padded[..., : lengths[1]], reference
