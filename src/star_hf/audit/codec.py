"""One interface to every autoencoder that the audit can take: waveform to continuous latents and back."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch.nn import functional

from ..generation.vae_interface import LatentMoments, encode_moments, latent_layout

# Names of the number of audio channels in the configurations of diffusers and transformers.
_AUDIO_CHANNELS = ("audio_channels", "num_channels", "in_channels", "input_channels")
DECODER_SEED = 0


class Codec:
    """An autoencoder between waveforms `(batch, audio_channels, samples)` and latents.

    `noise_std` is the standard deviation of the noise that latents without KL were designed for, one number
    or one for each channel, or None.
    """

    noise_std: float | torch.Tensor | None = None

    def __init__(self, model: Any, latent_channels: int, hop_length: int, sampling_rate: int) -> None:
        self.model = model
        self.latent_channels = latent_channels
        self.hop_length = hop_length
        self.sampling_rate = sampling_rate
        self.audio_channels = audio_channels(model.config)
        parameter = next(iter(model.parameters()), None)
        self.device = torch.device("cpu") if parameter is None else parameter.device
        self.dtype = torch.float32 if parameter is None else parameter.dtype

    @property
    def frame_rate(self) -> float:
        """Latent frames per second."""
        return self.sampling_rate / self.hop_length

    @property
    def class_name(self) -> str:
        return type(self.model).__name__

    @torch.inference_mode()
    def encode(self, waveform: torch.Tensor) -> LatentMoments:
        """Mean and std of the latents, float32 on the CPU; zeros are appended up to a whole hop."""
        padded = functional.pad(waveform, (0, -waveform.shape[-1] % self.hop_length))
        mean, std, kind = self._encode(padded.to(self.device, self.dtype))
        return LatentMoments(mean.float().cpu(), std.float().cpu(), kind)

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """The waveform of latents, float32 on the CPU; a decoder with noise gets the same at every call."""
        return self._decode(latents.to(self.device, self.dtype)).float().cpu()

    def _encode(self, waveform: torch.Tensor) -> LatentMoments:
        raise NotImplementedError

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


class DiffusersCodec(Codec):
    """An audio VAE of diffusers or of this package; see `generation.vae_interface`."""

    def __init__(self, model: Any) -> None:
        layout = latent_layout(model)
        super().__init__(model, layout.latent_channels, layout.hop_length, layout.sampling_rate)
        self._with_generator = "generator" in inspect.signature(model.decode).parameters
        self.noise_std = _designed_noise(model.config)

    def _encode(self, waveform: torch.Tensor) -> LatentMoments:
        return encode_moments(self.model, waveform)

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        options = {}
        if self._with_generator:
            options["generator"] = torch.Generator().manual_seed(DECODER_SEED)
        decoded = self.model.decode(latents, **options)
        return decoded if isinstance(decoded, torch.Tensor) else decoded.sample


class LongCatCodec(DiffusersCodec):
    """`LongCatAudioDiTVae`, whose `encode` gives a draw: its posterior is read from the encoder.

    Latents are the posterior's own, without the division by `scale` that `encode` ends with: the KL belongs
    to these.
    """

    def _encode(self, waveform: torch.Tensor) -> LatentMoments:
        mean, scale = self.model.encoder(waveform).chunk(2, dim=1)
        return LatentMoments(mean, functional.softplus(scale) + 1e-4, "gaussian")

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        return self.model.decode(latents / self.model.config.scale).sample


class PreQuantizerCodec(Codec):
    """DAC or EnCodec of transformers without its quantizer: the encoder's output goes to the decoder.

    Raises `ValueError` for an EnCodec that cuts its input into chunks or normalizes them (that of 48 kHz).
    """

    def __init__(self, model: Any) -> None:
        config = model.config
        if getattr(config, "normalize", False) or getattr(config, "chunk_length_s", None) is not None:
            raise ValueError(
                f"This {type(model).__name__} normalizes or cuts its input chunk by chunk: "
                "its latents are no function of the waveform alone, and cannot be audited."
            )
        super().__init__(model, config.hidden_size, config.hop_length, config.sampling_rate)

    def _encode(self, waveform: torch.Tensor) -> LatentMoments:
        latents = self.model.encoder(waveform)
        return LatentMoments(latents, torch.zeros_like(latents), "deterministic")

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        return self.model.decoder(latents)


def as_codec(model: Any) -> Codec:
    """The codec of an autoencoder of this package, of diffusers, or a DAC or EnCodec of transformers.

    Raises `ValueError` for a model that does not tell its rates and channels.
    """
    if isinstance(model, Codec):
        return model
    name = type(model).__name__
    if name in ("DacModel", "EncodecModel"):
        return PreQuantizerCodec(model)
    return LongCatCodec(model) if name == "LongCatAudioDiTVae" else DiffusersCodec(model)


def _designed_noise(config: Any) -> float | torch.Tensor | None:
    """σ of a σ-VAE, or `latent_noise` in its unit, the `latents_std` of the configuration or 1."""
    if config.get("sigma"):
        return float(config["sigma"])
    if not config.get("latent_noise"):
        return None
    unit = config.get("latents_std")
    return config["latent_noise"] * (1.0 if unit is None else torch.tensor(unit))


def audio_channels(config: Any) -> int:
    """Audio channels that a configuration names; models of transformers that name none are mono."""
    for name in _AUDIO_CHANNELS:
        value = getattr(config, name, None)
        if value is not None:
            return int(value)
    return 1
