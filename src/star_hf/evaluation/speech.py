"""How well speech survives: PESQ (quality) and STOI (intelligibility), by the packages that define them."""

from __future__ import annotations

import warnings

import torch

from .optional_packages import import_for
from .waveform_checks import Reduction, check_pair, check_rate, reduce_clips, refuse_clips

PESQ_MODES = {8000: "nb", 16000: "wb"}


def pesq(
    prediction: torch.Tensor, reference: torch.Tensor, sampling_rate: int, reduction: Reduction = "mean"
) -> torch.Tensor:
    """Perceptual evaluation of speech quality (MOS-LQO, 1 to 4.64) of mono waveforms `(batch, 1, samples)`.

    Wide band at 16 kHz, narrow band at 8 kHz. Returns the mean over clips, or `(batch,)` with
    `reduction="none"`. Source: ITU-T P.862 and P.862.2, by the package pesq.

    Raises `ImportError` where it is not installed, `ValueError` or `TypeError` for waveforms of different
    shapes, not mono, not finite or not floating point, for another rate, for a silent reference, and for a
    clip in which it finds no utterance.
    """
    check_pair(prediction, reference, channels=1)
    check_rate("sampling_rate", sampling_rate)
    if sampling_rate not in PESQ_MODES:
        raise ValueError(
            f"`sampling_rate` must be 8000 (narrow band) or 16000 Hz (wide band) for PESQ, got "
            f"{sampling_rate}; `prepare_pair(..., resample=16000)` converts."
        )
    package = import_for("PESQ", "pesq", "pip install pesq")
    _refuse_silence(reference)
    scores = []
    for index, (degraded, clean) in enumerate(zip(*_mono(prediction, reference), strict=True)):
        try:
            scores.append(package.pesq(sampling_rate, clean, degraded, PESQ_MODES[sampling_rate]))
        except package.PesqError as error:
            reason = error.args[0] if error.args else type(error).__name__
            reason = reason.decode() if isinstance(reason, bytes) else reason
            raise ValueError(f"PESQ cannot judge clip {index}: {reason}.") from error
    return reduce_clips(torch.tensor(scores), reduction)


def stoi(
    prediction: torch.Tensor,
    reference: torch.Tensor,
    sampling_rate: int,
    extended: bool = False,
    reduction: Reduction = "mean",
) -> torch.Tensor:
    """Short-time objective intelligibility (up to 1) of mono waveforms `(batch, 1, samples)`.

    `extended` gives ESTOI. Any rate: the package resamples to 10 kHz. Returns the mean over clips, or
    `(batch,)` with `reduction="none"`. Source: Taal et al. (2011) and Jensen and Taal (2016), by the package
    pystoi.

    Raises `ImportError` where it is not installed, `ValueError` or `TypeError` for waveforms of different
    shapes, not mono, not finite or not floating point, for a silent reference, and for a clip with less than
    about 0.4 s of sound.
    """
    check_pair(prediction, reference, channels=1)
    check_rate("sampling_rate", sampling_rate)
    package = import_for("STOI", "pystoi", "pip install pystoi")
    _refuse_silence(reference)
    scores = []
    with warnings.catch_warnings():
        # The package warns and returns 1e-5.
        warnings.filterwarnings("error", message="Not enough STFT frames")
        for index, (degraded, clean) in enumerate(zip(*_mono(prediction, reference), strict=True)):
            try:
                scores.append(float(package.stoi(clean, degraded, sampling_rate, extended=extended)))
            except RuntimeWarning as warning:
                raise ValueError(
                    f"STOI cannot judge clip {index}: it needs about 0.4 s that are not silent."
                ) from warning
    return reduce_clips(torch.tensor(scores), reduction)


def _mono(*waveforms: torch.Tensor):
    return [waveform[:, 0].detach().cpu().float().numpy() for waveform in waveforms]


def _refuse_silence(reference: torch.Tensor) -> None:
    refuse_clips("reference", ~reference.flatten(1).any(dim=1), "silent")
