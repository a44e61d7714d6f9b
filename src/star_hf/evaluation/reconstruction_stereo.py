"""How well the stereo image of a reconstruction is kept."""

from __future__ import annotations

import torch

from .waveform_checks import Reduction, check_pair, reduce_clips, refuse_clips

FRAME, HOP = 2048, 1024
ENERGY_FLOOR = 1e-8


def stereo_correlation_error(
    prediction: torch.Tensor, reference: torch.Tensor, reduction: Reduction = "mean"
) -> torch.Tensor:
    r"""Error of the correlation between left and right of waveforms `(batch, 2, samples)`; from 0 to 2.

    In frames of 2048 samples, hop 1024 (the last ones that fit; a shorter clip is one frame), \(\rho =
    \langle l, r\rangle / (\lVert l\rVert \lVert r\rVert)\) is 1 for mono, 0 for independent channels or a
    silent one, -1 for opposite ones. The error is \(\sum_t w_t |\rho_t(p) - \rho_t(r)|\) with weights in
    proportion to the reference's energy, so that frames that nobody hears do not count. Returns the mean
    over clips, or `(batch,)` with `reduction="none"`.

    Raises `ValueError` or `TypeError` for waveforms of different shapes, not stereo, not finite, not floating
    point, and for a silent reference.
    """
    check_pair(prediction, reference, channels=2)
    predicted, _ = _correlation_and_energy(prediction)
    wanted, energy = _correlation_and_energy(reference)  # (B, frames)
    total = energy.sum(dim=1, keepdim=True)
    refuse_clips("reference", total[:, 0] <= ENERGY_FLOOR, "silent")
    error = (energy / total * (predicted - wanted).abs()).sum(dim=1)
    return reduce_clips(error.float(), reduction)


def _correlation_and_energy(waveform: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    frames = waveform.double().unfold(-1, min(FRAME, waveform.shape[-1]), HOP)  # (B, 2, frames, samples)
    left, right = frames.unbind(dim=1)
    energies = frames.square().sum(dim=-1)  # (B, 2, frames)
    scale = energies.prod(dim=1).sqrt()
    correlation = (left * right).sum(dim=-1) / scale.clamp(min=ENERGY_FLOOR**2)
    return correlation, energies.sum(dim=1)
