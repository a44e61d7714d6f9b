"""Phase loss: instantaneous frequency and group delay of the STFT, without unwrapping."""

from collections.abc import Sequence

import torch

from .multi_resolution import MultiResolutionLoss

_POWER_FLOOR = 1e-8
# A bin of the prediction so far below the level-matched target counts by its size, not by its phase alone.
_RELATIVE_FLOOR = 1e-2
_TINY = 1e-20


class PhaseLoss(MultiResolutionLoss):
    r"""Distance of the phase's differences along time (instantaneous frequency) and frequency (group delay).

    With the spectra X of the prediction and Y of the target at frame m and bin k, the advance of the phase
    from frame to frame is the angle of \(A_X = X_{m+1,k} \overline{X_{m,k}}\), from bin to bin that of
    \(X_{m,k+1} \overline{X_{m,k}}\). Either term is

    \[L = \sum w\,\tfrac12 \left|\frac{A_X}{|A_X|} - \frac{A_Y}{|A_Y|}\right|^2 \Big/ \sum w
        = \sum w\,(1 - \cos(\angle A_X - \angle A_Y)) \Big/ \sum w,
        \qquad w = |A_Y|^{p/2},\]

    per clip and signal, from 0 to 2; clips and resolutions are averaged. Nothing is unwrapped, and unlike the
    wrapped difference's absolute value this has no jump at π and no kink at 0. Sinusoids Δf apart differ by
    1 − cos(2π Δf · hop / sampling rate) in the first term, a delay of d samples by 1 − cos(2π d / FFT size)
    in the second. Weights are the target's magnitudes and zero where \(|A_Y|\) is below 1e-8, so near-silent
    bins do not count and a silent target gives no loss. Where the prediction's \(|A_X|\) is below a hundredth
    of the target's at equal level, that bound divides it, so that the gradient stays finite.

    A gain on the whole prediction changes nothing, and neither does a phase offset that is the same for all
    bins and frames, such as an inverted polarity: a waveform loss sees these.

    εar-VAE takes L1 distances of plain differences of the wrapped phase, every bin alike, on left and right
    only, while magnitudes are compared on mid, side, left and right. The defaults keep to left and right.

    Source: Wang et al., "Back to Ear: Perceptually Driven High Fidelity Music Reconstruction"
    (arXiv 2509.14912); the cosine is that of Takamichi et al., "Phase Reconstruction from Amplitude
    Spectrograms Based on von-Mises-Distribution Deep Neural Network" (2018).

    Args:
        fft_sizes: FFT and window lengths in samples (Hann), even.
        hop_ratio: hop as a fraction of the FFT size, one over a whole number.
        instantaneous_frequency_weight, group_delay_weight: of the two terms.
        sum_difference_weight: weight of the mean of sum and difference.
        left_right_weight: weight of left and of right.
        magnitude_exponent: p above; 0 lets every audible bin weigh the same.

    Raises:
        ValueError: if a resolution does not exist or `magnitude_exponent` is negative.
    """

    def __init__(
        self,
        fft_sizes: Sequence[int] = (2048, 1024, 512),
        hop_ratio: float = 0.25,
        instantaneous_frequency_weight: float = 1.0,
        group_delay_weight: float = 1.0,
        sum_difference_weight: float = 0.0,
        left_right_weight: float = 0.5,
        magnitude_exponent: float = 1.0,
    ):
        super().__init__(fft_sizes, hop_ratio, sum_difference_weight, left_right_weight)
        if not magnitude_exponent >= 0:
            raise ValueError(f"`magnitude_exponent` must not be negative, not {magnitude_exponent}.")
        self.instantaneous_frequency_weight = instantaneous_frequency_weight
        self.group_delay_weight = group_delay_weight
        self.magnitude_exponent = magnitude_exponent

    def spectral_distance(
        self, spectra: torch.Tensor, needs_gradient: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        # Real and imaginary parts apart, (2, 2, B, frames, bins): complex arithmetic is several times slower.
        parts = torch.stack([spectra.real, spectra.imag])
        distance = parts.new_zeros(())
        gradient = torch.zeros_like(parts[:, 0]) if needs_gradient else None
        for weight, dim in ((self.instantaneous_frequency_weight, -2), (self.group_delay_weight, -1)):
            if not weight:
                continue
            steps = spectra.shape[dim] - 1
            earlier, later = parts.narrow(dim, 0, steps), parts.narrow(dim, 1, steps)
            term, slope = self._advance_distance(_times_conjugate(later, earlier), needs_gradient)
            distance += weight * term
            if needs_gradient:
                # Of A = later · conj(earlier), for the prediction.
                (real, imag), earlier, later = slope.mul_(weight), earlier[:, 0], later[:, 0]
                to_later, to_earlier = gradient.narrow(dim, 1, steps), gradient.narrow(dim, 0, steps)
                to_later[0].addcmul_(real, earlier[0]).addcmul_(imag, earlier[1], value=-1)
                to_later[1].addcmul_(real, earlier[1]).addcmul_(imag, earlier[0])
                to_earlier[0].addcmul_(real, later[0]).addcmul_(imag, later[1])
                to_earlier[1].addcmul_(real, later[1]).addcmul_(imag, later[0], value=-1)
        return distance, torch.complex(*gradient) if needs_gradient else None

    def _advance_distance(
        self, advance: torch.Tensor, needs_gradient: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Distance of advances A, real and imaginary parts `(2, 2, B, frames, bins)`, summed over clips.

        The second result is ∂/∂re and ∂/∂im with respect to the prediction's, `(2, B, frames, bins)`.
        """
        sizes = (advance[0].square() + advance[1].square()).sqrt_()
        magnitude, target_magnitude = sizes
        level, target_level = sizes.sum((-2, -1), keepdim=True)
        weight = target_magnitude.pow(self.magnitude_exponent / 2).mul_(target_magnitude > _POWER_FLOOR)
        weight /= weight.sum((-2, -1), keepdim=True).clamp(min=_TINY)
        floor = target_magnitude * (_RELATIVE_FLOOR * level / target_level.clamp(min=_TINY))
        floor = floor.clamp_(min=_POWER_FLOOR)
        scale = torch.maximum(magnitude, floor).reciprocal_()
        phasor = advance[:, 0] * scale
        difference = phasor - advance[:, 1] / target_magnitude.clamp(min=_POWER_FLOOR)
        pull = difference * weight
        distance = torch.dot(pull.flatten(), difference.flatten()) / 2
        if not needs_gradient:
            return distance, None
        # On the unit circle only the tangential part of the pull moves the phasor.
        radial = (phasor[0] * pull[0]).addcmul_(phasor[1], pull[1]).mul_(magnitude >= floor)
        return distance, pull.sub_(phasor.mul_(radial)).mul_(scale)


def _times_conjugate(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """first · conj(second), of real and imaginary parts `(2, ...)`."""
    return torch.stack(
        [first[0] * second[0] + first[1] * second[1], first[1] * second[0] - first[0] * second[1]]
    )
