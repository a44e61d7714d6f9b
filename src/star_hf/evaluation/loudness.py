"""Loudness (LKFS) and true peak (dBTP) of ITU-R BS.1770, and how far a reconstruction is off in them.

Needs scipy, which the extra `eval` installs.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from ..audio import resample
from .optional_packages import import_for
from .waveform_checks import Reduction, check_pair, check_rate, check_waveform, reduce_clips, refuse_clips

BLOCK_IN_S, BLOCKS_PER_HOP = 0.4, 4  # blocks overlap by 75%
ABSOLUTE_GATE, RELATIVE_GATE = -70.0, -10.0  # LKFS, and LU below the mean of what passes the first
LOUDNESS_OFFSET = -0.691  # makes 997 Hz at full scale in one channel -3.01 LKFS
OVERSAMPLING = 4
# The analogue prototypes of the two filters, which give the coefficients that the standard states for 48 kHz.
SHELF_FREQUENCY, SHELF_Q, SHELF_GAIN = 1681.974450955533, 0.7071752369554196, 3.999843853973347
SHELF_BAND_EXPONENT = 0.4996667741545416
HIGHPASS_FREQUENCY, HIGHPASS_Q = 38.13547087602444, 0.5003270373238773


def integrated_loudness(waveform: torch.Tensor, sampling_rate: int) -> torch.Tensor:
    r"""Gated loudness in LKFS, `(batch,)`, of waveforms `(batch, channels, samples)` of one or two channels.

    \(-0.691 + 10 \log_{10} \sum_c \overline{y_c^2}\) of the K-weighted channels, averaged over blocks of
    400 ms (75% overlap) above -70 LKFS and above 10 LU below the mean of those; minus infinity where no block
    passes, as for silence. A sine of 997 Hz at full scale in one channel has -3.01 LKFS. Source:
    ITU-R BS.1770-5, annex 1.

    Raises `ValueError` or `TypeError` for waveforms that are not finite and floating point, have other
    channels (their loudspeaker positions are not known here) or are shorter than 400 ms.
    """
    check_waveform("waveform", waveform, "(batch, channels, samples > 0)")
    check_rate("sampling_rate", sampling_rate)
    if waveform.shape[1] > 2:
        raise ValueError(f"`waveform` must have one or two channels, got {waveform.shape[1]}.")
    block = round(BLOCK_IN_S * sampling_rate)
    if waveform.shape[-1] < block:
        raise ValueError(
            f"`waveform` has {waveform.shape[-1]} samples; loudness needs a block of 400 ms, {block} samples."
        )
    power = _block_power(_k_weighted(waveform, sampling_rate), block)  # (B, blocks)
    return torch.tensor([_gated_loudness(clip) for clip in power])


def true_peak(waveform: torch.Tensor, sampling_rate: int) -> torch.Tensor:
    """True peak in dBTP, `(batch,)`, of waveforms `(batch, channels, samples)`: the peak between samples too.

    The largest magnitude of any channel at four times the rate, in dB of full scale; minus infinity for
    silence. Source: ITU-R BS.1770-5, annex 2, with soxr's filter in place of the 48 taps that it gives as an
    example.

    Raises `ValueError` or `TypeError` for waveforms that are not finite and floating point.
    """
    check_waveform("waveform", waveform, "(batch, channels, samples > 0)")
    check_rate("sampling_rate", sampling_rate)
    peaks = []
    for clip in waveform:
        between = resample(clip, sampling_rate, OVERSAMPLING * sampling_rate)
        # Samples themselves are reached by the interpolation only to its own accuracy.
        peaks.append(torch.maximum(between.abs().max().cpu(), clip.abs().max().float().cpu()))
    return 20 * torch.stack(peaks).log10()


def loudness_difference(
    prediction: torch.Tensor, reference: torch.Tensor, sampling_rate: int, reduction: Reduction = "mean"
) -> torch.Tensor:
    """Integrated loudness of the prediction minus the reference's in LU; positive where it is louder.

    Waveforms are `(batch, channels, samples)` at `sampling_rate` Hz. Returns the mean over clips, which is a
    bias, or `(batch,)` with `reduction="none"`. See `integrated_loudness`; raises as it does, for waveforms
    of different shapes, and for a clip that is silent after gating, which has no loudness.
    """
    check_pair(prediction, reference)
    return _level_difference(integrated_loudness, prediction, reference, sampling_rate, reduction)


def true_peak_difference(
    prediction: torch.Tensor, reference: torch.Tensor, sampling_rate: int, reduction: Reduction = "mean"
) -> torch.Tensor:
    """True peak of the prediction minus the reference's in dB; positive where it is higher.

    Waveforms are `(batch, channels, samples)` at `sampling_rate` Hz. Returns the mean over clips, which is a
    bias, or `(batch,)` with `reduction="none"`. See `true_peak`; raises as it does, for waveforms of
    different shapes, and for a silent clip, which has no peak.
    """
    check_pair(prediction, reference)
    return _level_difference(true_peak, prediction, reference, sampling_rate, reduction)


def _level_difference(measure, prediction, reference, sampling_rate, reduction) -> torch.Tensor:
    levels = measure(prediction, sampling_rate), measure(reference, sampling_rate)
    for name, level in zip(("prediction", "reference"), levels, strict=True):
        refuse_clips(name, level.isinf(), "silent")
    return reduce_clips(levels[0] - levels[1], reduction)


def _k_weighted(waveform: torch.Tensor, sampling_rate: int) -> np.ndarray:
    signal = import_for("loudness", "scipy.signal", 'pip install "star-hf[eval]"')
    samples = waveform.detach().cpu().double().numpy()
    return signal.sosfilt(k_weighting(sampling_rate), samples, axis=-1)


def k_weighting(sampling_rate: int) -> np.ndarray:
    """The two filters of K-weighting as second-order sections `(2, 6)`: high shelf, then high pass."""
    slope = math.tan(math.pi * SHELF_FREQUENCY / sampling_rate)
    high = 10 ** (SHELF_GAIN / 20)
    band = high**SHELF_BAND_EXPONENT
    shelf = np.array(
        [
            high + band * slope / SHELF_Q + slope**2,
            2 * (slope**2 - high),
            high - band * slope / SHELF_Q + slope**2,
            *_poles(slope, SHELF_Q),
        ]
    )
    highpass = _poles(math.tan(math.pi * HIGHPASS_FREQUENCY / sampling_rate), HIGHPASS_Q)
    # The standard leaves the high pass without the gain that would make it 1 at the top.
    return np.stack([shelf / shelf[3], np.concatenate([[1, -2, 1], highpass / highpass[0]])])


def _poles(slope: float, quality: float) -> np.ndarray:
    return np.array([1 + slope / quality + slope**2, 2 * (slope**2 - 1), 1 - slope / quality + slope**2])


def _block_power(weighted: np.ndarray, block: int) -> np.ndarray:
    """Mean square of every block, summed over channels: (batch, channels, samples) -> (batch, blocks)."""
    cumulative = np.concatenate(
        [np.zeros((*weighted.shape[:2], 1)), np.cumsum(weighted**2, axis=-1)], axis=-1
    )
    count = (weighted.shape[-1] - block) * BLOCKS_PER_HOP // block + 1
    starts = np.arange(count) * block // BLOCKS_PER_HOP
    return ((cumulative[..., starts + block] - cumulative[..., starts]) / block).sum(axis=1)


def _gated_loudness(power: np.ndarray) -> float:
    passed = power[_loudness(power) > ABSOLUTE_GATE]
    if len(passed) == 0:
        return -math.inf
    passed = passed[_loudness(passed) > _loudness(passed.mean()) + RELATIVE_GATE]
    return float(_loudness(passed.mean()))


def _loudness(power: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return LOUDNESS_OFFSET + 10 * np.log10(power)
