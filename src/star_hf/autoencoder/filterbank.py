"""An orthonormal multi-band front end: audio at the sampling rate ⇄ critically sampled bands."""

import functools
import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class LappedTransform(nn.Module):
    r"""Splits audio into `bands` frequency bands, each at 1/`bands` of the rate, and joins them exactly.

    A cosine-modulated filter bank with filters of length 2 · `bands` (Princen & Bradley 1986, the MDCT with a
    sine window), written as orthogonal butterflies across block edges followed by a DCT-IV of each block;
    blocks at the ends of the signal keep a rectangular outer edge. The transform is orthonormal: the inverse
    is the transpose, and energy is kept. It replaces the first, most expensive stages of a waveform encoder,
    as RAVE's PQMF does.
    """

    def __init__(self, bands: int):
        super().__init__()
        if bands < 2 or bands % 2:
            raise ValueError(f"`bands` must be an even number, not {bands}.")
        self.bands = bands
        for name, table in self._tables().items():
            self.register_buffer(name, table.float(), persistent=False)

    def _tables(self) -> dict[str, torch.Tensor]:
        n = torch.arange(self.bands, dtype=torch.float64, device="cpu") + 0.5
        # Rotation angle by distance from the block edge: π/4 at the edge, 0 half a block away.
        angle = math.pi / 4 * (1 - 2 * n[: self.bands // 2] / self.bands)
        dct = math.sqrt(2 / self.bands) * torch.cos(math.pi / self.bands * torch.outer(n, n))
        return {"dct": dct, "cosine": torch.cos(angle), "sine": torch.sin(angle)}

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        # Made anew: casting would round them for good, and `to_empty` leaves what no checkpoint fills.
        for name, table in self._tables().items():
            setattr(self, name, table.to(getattr(self, name)))
        return self

    def _rotate_edges(self, blocks: torch.Tensor, sign: int) -> torch.Tensor:
        """Rotate each pair of samples that mirror each other across an inner block edge."""
        if blocks.shape[-2] < 2:
            return blocks
        half = self.bands // 2
        before = blocks[..., :-1, half:].flip(-1)
        after = blocks[..., 1:, :half]
        cosine, sine = self.cosine.to(blocks.dtype), sign * self.sine.to(blocks.dtype)
        # The DCT-IV is even about a block's start and odd about its end, hence the signs.
        rotated_before = (cosine * before - sine * after).flip(-1)
        rotated_after = cosine * after + sine * before
        first = torch.cat([blocks[..., :1, :half], rotated_after], dim=-2)
        second = torch.cat([rotated_before, blocks[..., -1:, half:]], dim=-2)
        return torch.cat([first, second], dim=-1)

    def analyze(self, audio: torch.Tensor) -> torch.Tensor:
        """`(batch, channels, samples)` → `(batch, channels · bands, samples / bands)`, a whole number."""
        batch, channels, samples = audio.shape
        blocks = audio.reshape(batch, channels, samples // self.bands, self.bands)
        coefficients = self._rotate_edges(blocks, 1) @ self.dct.to(audio.dtype)
        return coefficients.transpose(2, 3).reshape(batch, channels * self.bands, -1)

    def synthesize(self, coefficients: torch.Tensor) -> torch.Tensor:
        """The inverse of `analyze`: `(batch, channels · bands, blocks)` → `(batch, channels, samples)`."""
        batch, width, blocks = coefficients.shape
        coefficients = coefficients.reshape(batch, width // self.bands, self.bands, blocks).transpose(2, 3)
        return self._rotate_edges(coefficients @ self.dct.to(coefficients.dtype), -1).flatten(2)


def _at_least_float32(x: torch.Tensor) -> torch.Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


class MultiBandFrontEnd(nn.Module):
    r"""A lapped transform whose bands get one scale and are compressed: \(\operatorname{sign}(c)\,|c/s|^p\).

    Audio falls by 50 dB and more from its lowest to its highest band, and again from its loud to its quiet
    passages. A CNN that sees the bare bands learns little but the loudness of the lowest ones for a long
    time. With every band near unit scale, and the range of levels halved by p = ½, it learns spectra from the
    start. Compression of magnitudes serves spectrogram autoencoders the same way (Pasini et al.,
    "Music2Latent", 2024, section 3.1). `synthesize` undoes it exactly. The arithmetic is at least float32,
    also under autocast, where the audio stays so.

    Args:
        bands: number of bands, even.
        scales: typical magnitude s of each band, such as its RMS over a data set; all 1 by default.
        exponent: p in (0, 1]; 1 for no compression.
    """

    in_factor, out_factor = 1, 1
    reach = 1
    #: What `synthesize` takes as a multiple of what `analyze` gives, and an offset.
    gain, offset = 1.0, 0.0

    def __init__(self, bands: int, scales: list[float] | None = None, exponent: float = 1.0):
        super().__init__()
        if scales is not None and (len(scales) != bands or not all(0 < scale < math.inf for scale in scales)):
            raise ValueError(f"`scales` must be {bands} positive numbers, one for each band, not {scales}.")
        if not 0 < exponent <= 1:
            raise ValueError(f"`exponent` must be in (0, 1], not {exponent}.")
        self.transform = LappedTransform(bands)
        self.scales = None if scales is None else list(scales)
        self.exponent = exponent

    def _channel_scales(self, coefficients: torch.Tensor) -> torch.Tensor:
        scales = torch.tensor(self.scales, device=coefficients.device)
        return scales.repeat(coefficients.shape[1] // len(self.scales))[:, None]

    def analyze(self, audio: torch.Tensor) -> torch.Tensor:
        """`(batch, channels, samples)` → `(batch, channels · bands, samples / bands)`, a whole number."""
        with torch.autocast(audio.device.type, enabled=False):
            coefficients = self.transform.analyze(_at_least_float32(audio))
            if self.scales is not None:
                coefficients = coefficients / self._channel_scales(coefficients)
            if self.exponent < 1:
                # The floor keeps the gradient of silence finite.
                magnitude = coefficients.abs().clamp(min=1e-12)
                coefficients = coefficients.sign() * magnitude.pow(self.exponent)
        return coefficients.to(audio.dtype)

    def synthesize(self, coefficients: torch.Tensor, first_block: int = 0) -> torch.Tensor:
        """The inverse of `analyze`: `(batch, channels · bands, blocks)` → `(batch, channels, samples)`.

        `first_block`, the position in the signal, does not matter here.
        """
        with torch.autocast(coefficients.device.type, enabled=False):
            expanded = _at_least_float32(coefficients)
            if self.exponent < 1:
                expanded = expanded.sign() * expanded.abs().pow(1 / self.exponent)
            if self.scales is not None:
                expanded = expanded * self._channel_scales(expanded)
            audio = self.transform.synthesize(expanded)
        # Half precision of the bands' sum would bury the quiet bands under the loud ones' rounding errors.
        keeps_precision = torch.is_autocast_enabled(coefficients.device.type)
        return audio if keeps_precision else audio.to(coefficients.dtype)


class NoiseExcitedFrontEnd(nn.Module):
    r"""Log-magnitudes of a lapped transform in, a gain for a carrier plus noise out, per band and block.

    The encoder reads \(\tfrac12\ln(\overline{(c/s)^2})\), the energy of a coefficient and its neighbours in
    time: the spectrum on the scale of decibels, where loudness and colour add up. The decoder answers with a
    log-gain g and a carrier u, from which the coefficient is \(s\,e^{g-1}(u + r)\) with r fixed Gaussian
    noise that every channel shares. So a noise needs no more than its envelope, as in RAVE's noise
    synthesizer (Caillon & Esling, 2021), and a tone is a carrier that outweighs r. A small model trained for
    minutes renders spectra this way; the phases of the recording are not kept. The arithmetic is at least
    float32, also under autocast, where the audio stays so.

    Args:
        bands: number of bands, even.
        scales: typical magnitudes s over frequency, from the lowest to the highest band; other counts than
            `bands` are interpolated on a logarithmic scale. All 1 by default.
    """

    in_factor, out_factor = 1, 2
    reach = 2
    # 1 + ln|c/s| in terms of the features (ln|c/s| + 4) / 3.
    gain, offset = 3.0, -3.0

    def __init__(self, bands: int, scales: list[float] | None = None):
        super().__init__()
        scales = [1.0] if scales is None else list(scales)
        if not scales or not all(0 < scale < math.inf for scale in scales):
            raise ValueError(f"`scales` must be positive numbers, not {scales}.")
        self.transform = LappedTransform(bands)
        self.scales = _interpolate_scales(scales, bands)

    def _channel_scales(self, channels: int, device: torch.device) -> torch.Tensor:
        return torch.tensor(self.scales, device=device).repeat(channels // self.transform.bands)[:, None]

    def analyze(self, audio: torch.Tensor) -> torch.Tensor:
        """`(batch, channels, samples)` → `(batch, channels · bands, samples / bands)`, a whole number."""
        with torch.autocast(audio.device.type, enabled=False):
            coefficients = self.transform.analyze(_at_least_float32(audio))
            scales = self._channel_scales(coefficients.shape[1], audio.device)
            energy = F.avg_pool1d((coefficients / scales).square(), 3, stride=1, padding=1)
            # About -2 for faint noise to 1.5 for loud sound.
            features = (0.5 * (energy + 1e-8).log() + 4) / 3
        return features.to(audio.dtype)

    def synthesize(self, parameters: torch.Tensor, first_block: int = 0) -> torch.Tensor:
        """`(batch, 2 · channels · bands, blocks)` → `(batch, channels, blocks · bands)`.

        Args:
            parameters: log-gains of all channels and bands, then carriers.
            first_block: position of the first block in the signal, which the noise depends on.
        """
        with torch.autocast(parameters.device.type, enabled=False):
            log_gain, carrier = _at_least_float32(parameters).chunk(2, dim=1)
            noise = _excitation(self.transform.bands, parameters.device)
            blocks = torch.arange(first_block, first_block + parameters.shape[-1], device=parameters.device)
            noise = noise[:, blocks % noise.shape[1]].repeat(carrier.shape[1] // self.transform.bands, 1)
            scales = self._channel_scales(carrier.shape[1], parameters.device)
            gain = (log_gain - 1).clamp(max=4).exp() * scales
            audio = self.transform.synthesize(gain * (carrier + noise))
        keeps_precision = torch.is_autocast_enabled(parameters.device.type)
        return audio if keeps_precision else audio.to(parameters.dtype)


def _interpolate_scales(scales: list[float], bands: int) -> list[float]:
    """`scales` at the centres of `bands` bands, linear in the logarithm, constant beyond the outer ones."""
    centres = (np.arange(len(scales)) + 0.5) / len(scales)
    return np.exp(np.interp((np.arange(bands) + 0.5) / bands, centres, np.log(scales))).tolist()


@functools.lru_cache(maxsize=8)
def _excitation(bands: int, device: torch.device, blocks: int = 4096) -> torch.Tensor:
    """Gaussian noise `(bands, blocks)`, the same on every machine: numpy keeps this generator's stream."""
    noise = np.random.RandomState(0).standard_normal((blocks, bands)).astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(noise.T)).to(device)


FRONT_ENDS = ("lapped", "noise_excited")


def make_front_end(kind: str, bands: int, scales: list[float] | None, exponent: float) -> nn.Module | None:
    """The front end of a kind in `FRONT_ENDS`, or `None` for one band.

    Raises:
        ValueError: an argument does not fit, named in the message.
    """
    if bands != 1 and (bands < 1 or bands % 2):
        raise ValueError(f"`filterbank_bands` must be 1 or an even number, not {bands}.")
    if kind not in FRONT_ENDS:
        raise ValueError(f"`filterbank_type` must be one of {', '.join(FRONT_ENDS)}, not {kind!r}.")
    if bands == 1:
        if kind != "lapped" or scales is not None or exponent != 1:
            raise ValueError(
                "`filterbank_type`, `filterbank_scales` and `filterbank_exponent` need "
                "`filterbank_bands` > 1."
            )
        return None
    if kind == "lapped":
        return MultiBandFrontEnd(bands, scales, exponent)
    if exponent != 1:
        raise ValueError(
            "`filterbank_exponent` belongs to the 'lapped' front end; 'noise_excited' works in decibels."
        )
    return NoiseExcitedFrontEnd(bands, scales)
