"""`AutoencoderLafa`: a frozen autoencoder whose latents are exchanged for channel-local ones (LAFA)."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import AutoencoderMixin
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from diffusers.utils.torch_utils import randn_tensor

from ..autoencoder.loading import ExactLoadingMixin
from ..autoencoder.posterior import DeterministicPosterior
from .decoder import LafaDecoder
from .encoder import LafaEncoder
from .inner_vae import FrozenVAE, channel_statistics, inner_config, inner_layout

OBJECTIVES = ("flow", "mse")
NOISE_SEED = 0


@dataclass
class AutoencoderLafaEncoderOutput(BaseOutput):
    """`latent_dist`: h as a posterior without spread, `(batch, latent_channels, frames)`."""

    latent_dist: DeterministicPosterior


@dataclass
class AutoencoderLafaDecoderOutput(BaseOutput):
    """`sample`: the waveform `(batch, audio_channels, samples)`."""

    sample: torch.Tensor


@dataclass
class AutoencoderLafaOutput(BaseOutput):
    """`sample`: the reconstruction, as long as the input; `latent_dist`: what it was made from."""

    sample: torch.Tensor
    latent_dist: DeterministicPosterior


class AutoencoderLafa(ExactLoadingMixin, ModelMixin, AutoencoderMixin, ConfigMixin):
    r"""Latents of a frozen audio autoencoder, re-encoded so that neighbouring channels are alike (LAFA).

    Encoder: waveform, frozen encoder, normalization, ViT, h. Decoder: noise, a rectified flow of a few Euler
    steps under h, the frozen decoder. Make one with `from_vae`; a saved folder holds the frozen autoencoder,
    too. Source: "Listens Like Mel: Boosting Latent Audio Diffusion with Channel Locality", section 4.3. The
    paper gives no sizes: those of the networks, beside the number of steps, are ours.

    Args:
        inner_vae: configuration of the frozen autoencoder with its `_class_name`.
        sampling_rate, audio_channels, hop_length, inner_latent_channels: what it works on and gives.
        latent_channels: of h; equal to `inner_latent_channels` for the same compression.
        inner_latents_mean, inner_latents_std: statistics by which its latents are normalized, one number per
            channel; 0 and 1 by default.
        encoder_hidden_size, encoder_layers: of the ViT.
        channel_patch: neighbouring channels in one token.
        causal: whether a group of channels is encoded from itself and those before it only.
        decoder_hidden_size, decoder_layers: of the flow.
        decoder_objective: `"flow"`, or `"mse"` for the paper's ablation, in which the same network predicts
            the latents at once, from h alone.
        decoder_steps: Euler steps of the flow.
        latents_mean, latents_std: statistics of h over a data set, one number per channel.
    """

    _supports_gradient_checkpointing = True
    _supports_group_offloading = False
    _no_split_modules = ["LafaEncoderLayer", "LafaDecoderLayer"]

    @register_to_config
    def __init__(
        self,
        inner_vae: dict[str, Any],
        sampling_rate: int = 44100,
        audio_channels: int = 2,
        hop_length: int = 2048,
        inner_latent_channels: int = 64,
        latent_channels: int = 64,
        inner_latents_mean: list[float] | None = None,
        inner_latents_std: list[float] | None = None,
        encoder_hidden_size: int = 384,
        encoder_layers: int = 6,
        channel_patch: int = 4,
        causal: bool = True,
        decoder_hidden_size: int = 512,
        decoder_layers: int = 8,
        decoder_objective: str = "flow",
        decoder_steps: int = 2,
        latents_mean: list[float] | None = None,
        latents_std: list[float] | None = None,
    ):
        super().__init__()
        _check_config(self.config)
        self.sampling_rate, self.hop_length = sampling_rate, hop_length
        self.inner = FrozenVAE(
            inner_vae,
            hop_length,
            inner_latents_mean or [0.0] * inner_latent_channels,
            inner_latents_std or [1.0] * inner_latent_channels,
        )
        self.encoder = LafaEncoder(
            inner_latent_channels, latent_channels, encoder_hidden_size, encoder_layers, channel_patch, causal
        )
        self.decoder = LafaDecoder(
            inner_latent_channels, latent_channels, decoder_hidden_size, decoder_layers
        )
        self.use_slicing = False

    @classmethod
    def from_vae(cls, vae: ModelMixin, **config: Any) -> "AutoencoderLafa":
        """An untrained LAFA around a copy of `vae`.

        Args:
            vae: an `AutoencoderStar`, or an audio autoencoder of diffusers with `encode().latent_dist` and
                `decode().sample`.
            config: further arguments of `AutoencoderLafa`. Statistics of the inner latents are those in the
                configuration of `vae` unless they are given.

        Raises:
            ValueError: `vae` lacks something, or an argument does not fit.
        """
        layout = inner_layout(vae)
        known = {
            "inner_vae": inner_config(vae),
            "sampling_rate": layout.sampling_rate,
            "audio_channels": layout.audio_channels,
            "hop_length": layout.hop_length,
            "inner_latent_channels": layout.latent_channels,
            "latent_channels": layout.latent_channels,
            "inner_latents_mean": vae.config.get("latents_mean"),
            "inner_latents_std": vae.config.get("latents_std"),
        }
        model = cls(**{**known, **config})
        model.inner.vae.load_state_dict(vae.state_dict())
        return model.to(vae.device).eval()

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike, *, output_loading_info: bool = False, **kwargs
    ):
        """Load a folder or a Hub id as diffusers does, from safetensors only, and refuse what does not fit.

        Raises:
            OSError: if there is no checkpoint.
            ValueError: if it is of another class, or has missing, unexpected or misshapen keys, all named.
        """
        model, info = super().from_pretrained(
            pretrained_model_name_or_path, output_loading_info=True, **kwargs
        )
        model.inner.freeze()  # loaded weights are trainable
        return (model, info) if output_loading_info else model

    @property
    def frame_rate(self) -> float:
        """Latent frames per second."""
        return self.sampling_rate / self.hop_length

    @torch.no_grad()
    def fit_inner_statistics(self, waveforms: Iterable[torch.Tensor]) -> None:
        """Normalize the frozen autoencoder's latents by their mean and deviation over `waveforms`.

        To be done before training, where `inner_latents_mean` and `inner_latents_std` are not known.

        Args:
            waveforms: batches `(batch, audio_channels, samples)`.

        Raises:
            ValueError: they give fewer than two frames.
        """
        mean, std = channel_statistics(self.inner.encode_raw(waveform) for waveform in waveforms)
        self.inner.normalize_by(mean, std)
        self.register_to_config(inner_latents_mean=mean, inner_latents_std=std)

    @torch.no_grad()
    def fit_latents_statistics(self, inner_latents: Iterable[torch.Tensor]) -> None:
        """Put mean and deviation of h into the configuration, for generators that normalize by them.

        Args:
            inner_latents: batches of what `inner.encode` gives.

        Raises:
            ValueError: they hold fewer than two frames.
        """
        mean, std = channel_statistics(self.encoder(latents) for latents in inner_latents)
        self.register_to_config(latents_mean=mean, latents_std=std)

    def enable_tiling(self) -> None:
        """Have the frozen autoencoder work in tiles; encoder and flow see the whole sequence."""
        self.inner.vae.enable_tiling()

    def disable_tiling(self) -> None:
        """Have the frozen autoencoder work in one pass."""
        self.inner.vae.disable_tiling()

    def decode_latents(
        self, h: torch.Tensor, generator: torch.Generator | list[torch.Generator] | None = None
    ) -> torch.Tensor:
        """Normalized latents of the frozen autoencoder that the flow (or the regression) gives for h."""
        batch, _, frames = h.shape
        shape = (batch, self.config.inner_latent_channels, frames)
        if self.config.decoder_objective == "mse":
            return self.decoder.integrate(h.new_zeros(shape), h, 1)
        if generator is None:
            # the same for every row: a waveform does not depend on its batch
            own = torch.Generator().manual_seed(NOISE_SEED)
            noise = randn_tensor((1, *shape[1:]), own, device=h.device, dtype=h.dtype).expand(shape)
        else:
            noise = randn_tensor(shape, generator, device=h.device, dtype=h.dtype)
        return self.decoder.integrate(noise, h, self.config.decoder_steps)

    def _encode(self, x: torch.Tensor) -> torch.Tensor:
        return self.encoder(self.inner.encode(x))

    def _by_slice(self, function, x: torch.Tensor) -> torch.Tensor:
        if self.use_slicing and x.shape[0] > 1:
            return torch.cat([function(row) for row in x.split(1)])
        return function(x)

    @apply_forward_hook
    def encode(self, x: torch.Tensor, return_dict: bool = True):
        """Encode a waveform.

        Args:
            x: `(batch, audio_channels, samples)` in [-1, 1], any length of at least one sample.

        Returns:
            `AutoencoderLafaEncoderOutput` with `latent_dist` of h,
            `(batch, latent_channels, ⌈samples / hop⌉)`, or a tuple of it.

        Raises:
            ValueError: `x` has another number of dimensions or channels, or no sample.
        """
        channels = self.config.audio_channels
        if x.ndim != 3 or x.shape[1] != channels or x.shape[2] == 0:
            raise ValueError(
                f"`x` must be a waveform of shape (batch, {channels}, samples > 0), got {tuple(x.shape)}"
            )
        posterior = DeterministicPosterior(self._by_slice(self._encode, x))
        return AutoencoderLafaEncoderOutput(latent_dist=posterior) if return_dict else (posterior,)

    @apply_forward_hook
    def decode(
        self,
        z: torch.Tensor,
        return_dict: bool = True,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ):
        """Decode h.

        Args:
            z: h, `(batch, latent_channels, frames)`.
            generator: of the noise that the flow starts from; by default every row starts from the same
                noise, of a fixed seed, so that decoding is deterministic.

        Returns:
            `AutoencoderLafaDecoderOutput` with `sample` `(batch, audio_channels, frames · hop_length)`, or a
            tuple of it.

        Raises:
            ValueError: `z` has another number of dimensions or channels, or no frame.
        """
        channels = self.config.latent_channels
        if z.ndim != 3 or z.shape[1] != channels or z.shape[2] == 0:
            raise ValueError(
                f"`z` must be latents of shape (batch, {channels}, frames > 0), got {tuple(z.shape)}"
            )
        sample = self._by_slice(self.inner.decode, self.decode_latents(z, generator))
        return AutoencoderLafaDecoderOutput(sample=sample) if return_dict else (sample,)

    def forward(
        self,
        sample: torch.Tensor,
        sample_posterior: bool = False,
        return_dict: bool = True,
        generator: torch.Generator | None = None,
    ):
        """Reconstruct `sample` `(batch, audio_channels, samples)`; `generator` is that of `decode`.

        `sample_posterior` is accepted as other autoencoders have it: h has no spread to draw from.

        Returns:
            `AutoencoderLafaOutput`, or a tuple of the reconstruction.
        """
        posterior = self.encode(sample).latent_dist
        reconstruction = self.decode(posterior.mode(), generator=generator).sample[..., : sample.shape[-1]]
        if not return_dict:
            return (reconstruction,)
        return AutoencoderLafaOutput(sample=reconstruction, latent_dist=posterior)


def _check_config(config: Any) -> None:
    """Raise a `ValueError` that names the first argument that no model can have."""
    if config.decoder_objective not in OBJECTIVES:
        raise ValueError(
            f"`decoder_objective` must be one of {', '.join(OBJECTIVES)}, got {config.decoder_objective!r}"
        )
    for name in ("sampling_rate", "audio_channels", "hop_length", "inner_latent_channels", "decoder_steps"):
        if config[name] < 1:
            raise ValueError(f"`{name}` must be at least 1, got {config[name]}")
    for name, channels in (
        ("inner_latents_mean", config.inner_latent_channels),
        ("inner_latents_std", config.inner_latent_channels),
        ("latents_mean", config.latent_channels),
        ("latents_std", config.latent_channels),
    ):
        if config[name] is not None and len(config[name]) != channels:
            raise ValueError(
                f"`{name}` must have one number for each of {channels} channels, got {len(config[name])}"
            )
    if config.inner_latents_std is not None and not min(config.inner_latents_std) > 0:
        raise ValueError(f"`inner_latents_std` must be above 0, got {min(config.inner_latents_std)}")
