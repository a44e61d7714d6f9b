"""Perceptual weighting: the A curve (IEC 61672) and the K curve (ITU-R BS.1770), as gains and as a filter."""

import math

import torch
from torch import nn

# Analogue prototypes of the K curve's two stages: with them the bilinear transform gives the standard's
# coefficients at 48 kHz, and their counterparts at any other rate.
_SHELF = {"frequency": 1681.974450955533, "quality": 0.7071752369554196, "gain_db": 3.999843853973347}
_SHELF_MIDDLE_EXPONENT = 0.4996667741545416
_HIGH_PASS = {"frequency": 38.13547087602444, "quality": 0.5003270373238773}
# The high pass has the longest memory, a double pole; after so many of its time constants the impulse
# response is below 1e-12.
_MEMORY = 40


def a_weighting_gain(frequency: torch.Tensor) -> torch.Tensor:
    """Gain of the A curve (IEC 61672-1) at `frequency` in Hz, 1 at 1 kHz; of the shape of `frequency`."""
    dtype = frequency.dtype if frequency.is_floating_point() else torch.get_default_dtype()
    squared = frequency.double().square()

    def response(f2):
        return (
            12194.0**2
            * f2.square()
            / ((f2 + 20.6**2) * (f2 + 12194.0**2) * torch.sqrt((f2 + 107.7**2) * (f2 + 737.9**2)))
        )

    return (response(squared) / response(torch.tensor(1e6, dtype=torch.float64))).to(dtype)


def k_weighting_coefficients(sampling_rate: float) -> torch.Tensor:
    """Second-order sections of the K curve: b₀ b₁ b₂ a₀ a₁ a₂ of the high shelf, then of the high pass.

    `(2, 6)` in float64, the form of `scipy.signal.sosfilt`. At 48 kHz they are the standard's. For other
    rates it asks for the same frequency response: its analogue prototypes go through the bilinear transform
    again, and the high pass keeps the gain of 1.005 that its rounded numerator has at 48 kHz.

    Source: ITU-R BS.1770-4 (2015), annex 1, tables 1 and 2.

    Raises:
        ValueError: if `sampling_rate` is not above twice the shelf's corner, 3364 Hz.
    """
    if not 2 * _SHELF["frequency"] < sampling_rate < math.inf:
        raise ValueError(f"`sampling_rate` must be above 3364 Hz and finite, not {sampling_rate}.")
    high = 10 ** (_SHELF["gain_db"] / 20)
    middle = high**_SHELF_MIDDLE_EXPONENT
    k, damping, denominator = _bilinear(_SHELF["frequency"], _SHELF["quality"], sampling_rate)
    shelf = [high + middle * damping + k * k, 2 * (k * k - high), high - middle * damping + k * k]
    rows = [[value / denominator[0] for value in (*shelf, *denominator)]]
    _, _, denominator = _bilinear(_HIGH_PASS["frequency"], _HIGH_PASS["quality"], sampling_rate)
    gain = _bilinear(_HIGH_PASS["frequency"], _HIGH_PASS["quality"], 48000)[2][0]
    rows.append([value / denominator[0] for value in (gain, -2 * gain, gain, *denominator)])
    return torch.tensor(rows, dtype=torch.float64)


def _bilinear(frequency: float, quality: float, sampling_rate: float) -> tuple[float, float, list[float]]:
    """The warped corner k, k / quality and the denominator of a second-order section."""
    k = math.tan(math.pi * frequency / sampling_rate)
    return k, k / quality, [1 + k / quality + k * k, 2 * (k * k - 1), 1 - k / quality + k * k]


def k_weighting_gain(frequency: torch.Tensor, sampling_rate: float) -> torch.Tensor:
    """Gain of the K curve (ITU-R BS.1770) at `frequency` in Hz for audio at `sampling_rate`.

    Of the shape of `frequency`. It is 0 at 0 Hz, 1.08 (+0.69 dB) at 997 Hz and 1.59 (+4.0 dB) in the treble.

    Raises:
        ValueError: if `sampling_rate` is too low.
    """
    dtype = frequency.dtype if frequency.is_floating_point() else torch.get_default_dtype()
    response = _k_response(frequency.double(), k_weighting_coefficients(sampling_rate), sampling_rate)
    return response.abs().to(dtype)


def _k_response(frequency: torch.Tensor, coefficients: torch.Tensor, sampling_rate: float) -> torch.Tensor:
    delay = torch.polar(torch.ones_like(frequency), -2 * math.pi * frequency / sampling_rate)
    response = torch.ones_like(delay)
    for b0, b1, b2, a0, a1, a2 in coefficients.tolist():
        response = response * (b0 + delay * (b1 + delay * b2)) / (a0 + delay * (a1 + delay * a2))
    return response


class KWeighting(nn.Module):
    """The K filter (ITU-R BS.1770) on waveforms, to put in front of losses, as εar-VAE does.

    The two recursive filters of the standard, applied through their impulse response by FFT: the same output
    as the recursion from silence, without a loop over samples, differentiable, in float32 at least. Output
    and input have the same length; the filter is causal, adds no delay of its own, and a clip that starts
    within a sound begins with the same transient in prediction and target.

    Source: Wang et al., "Back to Ear: Perceptually Driven High Fidelity Music Reconstruction"
    (arXiv 2509.14912); ITU-R BS.1770-4 (2015), annex 1.

    Args:
        sampling_rate: in Hz.

    Raises:
        ValueError: if `sampling_rate` is too low.
    """

    def __init__(self, sampling_rate: int = 44100):
        super().__init__()
        coefficients = k_weighting_coefficients(sampling_rate)
        length = math.ceil(_MEMORY * sampling_rate / (2 * math.pi * _HIGH_PASS["frequency"]))
        # Sampled so finely that what wraps around is below float64's resolution.
        frequency = torch.fft.rfftfreq(2 * length, 1 / sampling_rate, dtype=torch.float64)
        response = _k_response(frequency, coefficients, sampling_rate)
        impulse_response = torch.fft.irfft(response, n=2 * length)[:length].float()
        self.register_buffer("impulse_response", impulse_response, persistent=False)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """`(batch, channels, samples)`, or any shape that ends in samples, to the same shape."""
        dtype = torch.promote_types(waveform.dtype, torch.float32)
        samples = waveform.shape[-1]
        size = _fast_length(samples + self.impulse_response.shape[0] - 1)
        with torch.autocast(waveform.device.type, enabled=False):
            response = torch.fft.rfft(self.impulse_response.to(dtype), n=size)
            filtered = torch.fft.irfft(torch.fft.rfft(waveform.to(dtype), n=size) * response, n=size)
        return filtered[..., :samples]


def _fast_length(length: int) -> int:
    """The next length above with no factor but 2 and one of 1, 3, 5 … 15."""
    step = 2 ** max(length.bit_length() - 4, 1)
    return math.ceil(length / step) * step
