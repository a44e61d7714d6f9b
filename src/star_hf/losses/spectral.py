"""Multi-resolution STFT loss on sum, difference, left and right signals."""

from collections.abc import Sequence

import torch

from .multi_resolution import MultiResolutionLoss
from .weighting import a_weighting_gain, k_weighting_gain

_POWER_FLOOR = 1e-8


class MultiResolutionSTFTLoss(MultiResolutionLoss):
    r"""Spectral convergence and log-magnitude distance over several STFT resolutions, as Stable Audio Open's.

    For magnitudes P of the prediction and T of the target, one resolution contributes
    \(w_{sc} \lVert T - P\rVert_F / \max(\lVert T\rVert_F, \lVert P\rVert_F)
    + w_{log} \operatorname{mean}|\ln T - \ln P|\), per clip and signal; clips and resolutions are averaged.
    The denominator is a constant to the gradient; taking the larger norm bounds the term where the target is
    silent, as the difference of a mono recording's channels is. Magnitudes are clamped at 1e-4.

    Stereo adds the mean of the sum's and the difference's distance and those of left and right, each by its
    weight; a mono signal is compared as it is. The default weights compare mid, side, left and right alike,
    each by one half, as εar-VAE supervises magnitudes; for equal weights w, give 2 w and w. Sum and
    difference spectra are made from the channels' spectra, not transformed again, and the gradient is
    computed beside the loss, so that none of the intermediates outlives a clip.

    Source: Yamamoto et al., "Parallel WaveGAN" (2020), eqs. 4-6; Evans et al., "Stable Audio Open" (2024),
    section 3; Wang et al., "Back to Ear" (arXiv 2509.14912) for the K curve.

    Args:
        fft_sizes: FFT and window lengths in samples (Hann), even.
        hop_ratio: hop as a fraction of the FFT size, one over a whole number.
        sum_difference_weight: weight of the mean of sum and difference.
        left_right_weight: weight of left and of right.
        convergence_weight, log_magnitude_weight: of the two terms.
        a_weighting: weight the spectra by the A curve (IEC 61672) before comparing.
        sampling_rate: in Hz, for the A and the K curve.
        k_weighting: weight them by the K curve (ITU-R BS.1770) instead. `KWeighting` filters the waveforms
            themselves, once for several losses.

    Raises:
        ValueError: if a resolution does not exist, or both curves are asked for.
    """

    def __init__(
        self,
        fft_sizes: Sequence[int] = (2048, 1024, 512, 256, 128, 64, 32),
        hop_ratio: float = 0.25,
        sum_difference_weight: float = 1.0,
        left_right_weight: float = 0.5,
        convergence_weight: float = 1.0,
        log_magnitude_weight: float = 1.0,
        a_weighting: bool = False,
        sampling_rate: int = 44100,
        k_weighting: bool = False,
    ):
        super().__init__(fft_sizes, hop_ratio, sum_difference_weight, left_right_weight)
        if a_weighting and k_weighting:
            raise ValueError("`a_weighting` and `k_weighting` are two curves: at most one may be true.")
        self.convergence_weight = convergence_weight
        self.log_magnitude_weight = log_magnitude_weight
        self.a_weighting = a_weighting
        self.k_weighting = k_weighting
        if a_weighting or k_weighting:
            for size in self.fft_sizes:
                frequency = torch.linspace(0, sampling_rate / 2, size // 2 + 1)
                gain = (
                    a_weighting_gain(frequency) if a_weighting else k_weighting_gain(frequency, sampling_rate)
                )
                self.register_buffer(f"gain_{size}", gain, persistent=False)

    def bin_gain(self, size: int) -> torch.Tensor | None:
        return getattr(self, f"gain_{size}") if self.a_weighting or self.k_weighting else None

    def spectral_distance(
        self, spectra: torch.Tensor, needs_gradient: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        distance, factor = self._distance(spectra.real.square() + spectra.imag.square())
        return distance, spectra[0].mul_(factor) if needs_gradient else None

    def _distance(self, power: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Distance of power spectra `(2, B, frames, bins)`, prediction then target, summed over clips.

        The second result f gives the gradient with respect to the prediction's spectrum X as f · X.
        """
        audible = power[0] > _POWER_FLOOR
        power = power.clamp_(min=_POWER_FLOOR)
        magnitude, target_magnitude = power.sqrt()
        difference = magnitude - target_magnitude
        error = torch.linalg.vector_norm(difference, dim=(1, 2))
        norms = (torch.linalg.vector_norm(m, dim=(1, 2)) for m in (magnitude, target_magnitude))
        scale = torch.maximum(*norms)
        log_ratio = torch.log(power[0] / power[1]).mul_(0.5)
        elements = log_ratio[0].numel()
        distance = self.convergence_weight * (error / scale).sum()
        distance = distance + self.log_magnitude_weight * log_ratio.abs().sum() / elements
        # d|X| = X/|X| and d ln|X| = X/|X|².
        slope = (self.convergence_weight / (error * scale).clamp(min=1e-20))[:, None, None]
        factor = difference.mul_(slope).div_(magnitude)
        factor += log_ratio.sign_().mul_(self.log_magnitude_weight / elements).div_(power[0])
        return distance, factor.mul_(audible)
