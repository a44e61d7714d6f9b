"""What linear probes are to find in the latents: pitch classes and where in the stereo field sounds are.

Source: SAME (Stable Audio 3): 1×1 convolutions from the latents to chromagrams at several octaves and to the
interaural level difference, trained with an L1 loss along with the autoencoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers.audio_utils import chroma_filter_bank, mel_filter_bank

# 80 dB below a sine of full scale: what is fainter counts as silence.
_POWER_FLOOR = 1e-8
# The level difference in these units is about as large as a chromagram.
_LEVEL_UNIT_DB = 20.0


def chromagram(
    waveform: torch.Tensor,
    sampling_rate: int,
    frames: int,
    num_chroma: int = 128,
    octave: float = 5.0,
    octave_width: float = 2.0,
    fft_size: int = 8192,
) -> torch.Tensor:
    """Energy of each pitch class `(batch, num_chroma, frames)`, relative to each frame's largest.

    The power spectrum, averaged over the channels, times librosa's chroma filters. Bin k is the pitch class
    12 k / num_chroma semitones above A (440 Hz). Frequencies f are weighted with a Gaussian of log2 f around
    27.5 Hz · 2^octave (octave 5: 880 Hz), so that several octaves give several features. Frames fainter than
    -80 dB of full scale fade to 0.

    Args:
        waveform: `(batch, channels, samples)`; silence is assumed around it.
        sampling_rate: in Hz.
        frames: how many; they divide the clip evenly, as latents do, and their windows are centred.
        octave_width: standard deviation of the Gaussian in octaves.
        fft_size: samples of the Hann window.

    Raises:
        ValueError: if an argument is out of range.
    """
    return _chroma(_power(waveform, frames, fft_size), sampling_rate, num_chroma, octave, octave_width)


def level_difference(
    waveform: torch.Tensor, sampling_rate: int, frames: int, bands: int = 32, fft_size: int = 8192
) -> torch.Tensor:
    """Level of the left channel over that of the right in mel bands, `(batch, bands, frames)` in dB.

    10 log10((P_left + ε) / (P_right + ε)) with P the power in the band and ε 80 dB below a sine of full
    scale: silence has 0, and what is in one channel alone about 80 dB at most.

    Args:
        waveform: `(batch, 2, samples)`; silence is assumed around it.
        sampling_rate, frames, fft_size: as for `chromagram`.

    Raises:
        ValueError: if the waveform has not two channels, or an argument is out of range.
    """
    return _level_difference(_power(waveform, frames, fft_size), sampling_rate, bands)


class SignalRegressors(nn.Module):
    r"""Linear probes of chromagrams and level differences: \(\sum_k w_k \operatorname{mean}|W_k z - y_k|\).

    `targets` makes the y_k; the level difference is counted in units of 20 dB there. What has the weight 0 is
    left out. In float32.

    Args:
        latent_channels: of the latents z.
        sampling_rate: of the waveforms, in Hz.
        audio_channels: of the waveforms. One channel has no level difference: its weight must then be 0.
        chroma_octaves: where the chromagrams are centred, see `chromagram`.
        chroma_weights: the weight of each.
        level_difference_weight: the weight of the level difference.
        num_chroma, bands, fft_size: see `chromagram` and `level_difference`.

    Raises:
        ValueError: if an argument is out of range, or nothing has a weight.

    Source: SAME, whose octaves and weights are the defaults.
    """

    def __init__(
        self,
        latent_channels: int,
        sampling_rate: int,
        audio_channels: int = 2,
        chroma_octaves: Sequence[float] = (1.0, 5.0, 9.0),
        chroma_weights: Sequence[float] = (0.035, 0.05, 0.2),
        level_difference_weight: float = 0.1,
        num_chroma: int = 128,
        bands: int = 32,
        fft_size: int = 8192,
    ) -> None:
        super().__init__()
        if len(chroma_octaves) != len(chroma_weights) or len(set(chroma_octaves)) != len(chroma_octaves):
            raise ValueError(
                "`chroma_octaves` must be different and as many as `chroma_weights`, not "
                f"{list(chroma_octaves)} and {list(chroma_weights)}."
            )
        if level_difference_weight and audio_channels != 2:
            raise ValueError(
                f"`level_difference_weight` must be 0 for audio of {audio_channels} channels, not "
                f"{level_difference_weight}: a level difference is between two."
            )
        _check_sizes(num_chroma=num_chroma, bands=bands, fft_size=fft_size, sampling_rate=sampling_rate)
        octaves = {f"chroma_{octave:g}".replace(".", "_"): octave for octave in chroma_octaves}
        weights = dict(zip(octaves, chroma_weights, strict=True))
        weights["level_difference"] = level_difference_weight
        if not (all(weight >= 0 for weight in weights.values()) and any(weights.values())):
            raise ValueError(
                "`chroma_weights` and `level_difference_weight` must be at least 0 and not all 0, not "
                f"{list(chroma_weights)} and {level_difference_weight}."
            )
        self.sampling_rate, self.latent_channels = sampling_rate, latent_channels
        self.num_chroma, self.bands, self.fft_size = num_chroma, bands, fft_size
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self.octaves = {name: octave for name, octave in octaves.items() if name in self.weights}
        bins = {name: num_chroma if name in self.octaves else bands for name in self.weights}
        self.probes = nn.ModuleDict({name: nn.Conv1d(latent_channels, bins[name], 1) for name in bins})

    @torch.no_grad()
    def targets(self, waveform: torch.Tensor, frames: int) -> dict[str, torch.Tensor]:
        """What the probes are to find, by name: `(batch, bins, frames)` float32 each.

        Args:
            waveform: `(batch, audio_channels, samples)`.
            frames: of the latents.
        """
        power = _power(waveform, frames, self.fft_size)
        targets = {
            name: _chroma(power, self.sampling_rate, self.num_chroma, octave, octave_width=2.0)
            for name, octave in self.octaves.items()
        }
        if "level_difference" in self.weights:
            difference = _level_difference(power, self.sampling_rate, self.bands)
            targets["level_difference"] = difference / _LEVEL_UNIT_DB
        return targets

    def forward(self, latents: torch.Tensor, targets: dict[str, torch.Tensor]) -> torch.Tensor:
        """The weighted sum of the probes' mean absolute errors, a scalar.

        Args:
            latents: `(batch, latent_channels, frames)`.
            targets: those of `targets`, for the same clips and frames.

        Raises:
            ValueError: if the shapes do not match, or targets are missing.
        """
        if latents.ndim != 3 or latents.shape[1] != self.latent_channels:
            raise ValueError(
                f"`latents` must be (batch, {self.latent_channels}, frames), not {tuple(latents.shape)}."
            )
        if set(targets) != set(self.probes):
            raise ValueError(f"`targets` must be {sorted(self.probes)}, not {sorted(targets)}.")
        with torch.autocast(latents.device.type, enabled=False):
            found = {name: probe(latents.float()) for name, probe in self.probes.items()}
            for name, values in found.items():
                if targets[name].shape != values.shape:
                    raise ValueError(
                        f"`targets[{name!r}]` must be {tuple(values.shape)}, not "
                        f"{tuple(targets[name].shape)}."
                    )
            errors = [
                weight * F.l1_loss(found[name], targets[name].float())
                for name, weight in self.weights.items()
            ]
            return torch.stack(errors).sum()


def _power(waveform: torch.Tensor, frames: int, fft_size: int) -> torch.Tensor:
    """Power spectra `(batch, channels, fft_size // 2 + 1, frames)`, 1 for a sine of full scale in its bin."""
    if waveform.ndim != 3 or waveform.numel() == 0:
        raise ValueError(f"`waveform` must be (batch, channels, samples), not {tuple(waveform.shape)}.")
    _check_sizes(frames=frames, fft_size=fft_size)
    samples = waveform.shape[-1]
    with torch.autocast(waveform.device.type, enabled=False):
        padded = F.pad(waveform.float(), (fft_size // 2, fft_size - fft_size // 2))
        centres = (torch.arange(frames, device=waveform.device) + 0.5) * (samples / frames)
        windows = padded.unfold(-1, fft_size, 1)[..., centres.round().long(), :]
        shape = torch.hann_window(fft_size, device=waveform.device)
        spectra = torch.fft.rfft(windows * (shape * (2 / shape.sum())))
        return (spectra.real.square() + spectra.imag.square()).transpose(-1, -2)


def _chroma(
    power: torch.Tensor, sampling_rate: int, num_chroma: int, octave: float, octave_width: float
) -> torch.Tensor:
    _check_sizes(num_chroma=num_chroma, sampling_rate=sampling_rate)
    if not octave_width > 0:
        raise ValueError(f"`octave_width` must be positive, not {octave_width}.")
    fft_size = 2 * (power.shape[-2] - 1)
    filters = _chroma_filters(fft_size, sampling_rate, num_chroma, octave, octave_width, power.device)
    energy = filters @ power.mean(dim=1)
    return energy / energy.amax(dim=1, keepdim=True).clamp(min=_POWER_FLOOR)


def _level_difference(power: torch.Tensor, sampling_rate: int, bands: int) -> torch.Tensor:
    _check_sizes(bands=bands, sampling_rate=sampling_rate)
    if power.shape[1] != 2:
        raise ValueError(f"`waveform` must have 2 channels for a level difference, not {power.shape[1]}.")
    filters = _mel_filters(2 * (power.shape[-2] - 1), sampling_rate, bands, power.device)
    left, right = (filters @ power + _POWER_FLOOR).log10().unbind(dim=1)
    return 10 * (left - right)


@lru_cache(maxsize=16)
def _chroma_filters(
    fft_size: int,
    sampling_rate: int,
    num_chroma: int,
    octave: float,
    octave_width: float,
    device: torch.device,
) -> torch.Tensor:
    filters = chroma_filter_bank(
        fft_size,
        num_chroma,
        sampling_rate,
        weighting_parameters=(octave, octave_width),
        start_at_c_chroma=False,
    )
    return _constant(filters, device)


@lru_cache(maxsize=16)
def _mel_filters(fft_size: int, sampling_rate: int, bands: int, device: torch.device) -> torch.Tensor:
    filters = mel_filter_bank(fft_size // 2 + 1, bands, 0.0, sampling_rate / 2, sampling_rate)
    return _constant(filters.T, device)


def _constant(array: np.ndarray, device: torch.device) -> torch.Tensor:
    # What is kept must serve callers in any mode.
    with torch.inference_mode(False):
        return torch.from_numpy(np.ascontiguousarray(array)).float().to(device)


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"`{name}` must be an integer of at least 1, not {size!r}.")
        if name == "fft_size" and size % 2:
            raise ValueError(f"`fft_size` must be even, not {size}.")
