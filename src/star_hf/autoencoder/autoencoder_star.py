"""`AutoencoderStar`: waveform ⇄ ordered continuous latents."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import AutoencoderMixin
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch.nn import functional as F

from star_hf.regularizers.soft_normalization import SoftNormalization

from .bottleneck import INITIAL_SCALE, make_posterior, projection_channels
from .config_checks import check_config
from .context import make_context
from .conversion import ConversionMixin
from .filterbank import make_front_end
from .layers import _WeightNormConvolution, from_channels_last, to_channels_last
from .loading import ExactLoadingMixin
from .oobleck import GRID_STEPS, OobleckDecoder, OobleckEncoder
from .outputs import AutoencoderStarDecoderOutput, AutoencoderStarEncoderOutput, AutoencoderStarOutput
from .posterior import Generators, normal_numbers
from .shortcut import LinearShortcut
from .tiling import map_tiles


class AutoencoderStar(ConversionMixin, ExactLoadingMixin, ModelMixin, AutoencoderMixin, ConfigMixin):
    r"""Audio autoencoder with a CNN, a bidirectional context stack and a bottleneck (STAR-VAE).

    Encoder: waveform, CNN, context, projection to (mean, scale). Decoder: latents, context, CNN. The CNN has
    the configuration, the defaults and the parameter names of diffusers' `AutoencoderOobleck`; see
    `from_oobleck`. Source: Liu et al., "Structured Topology-Aware Regularization for Audio Reconstruction and
    Generation" (arXiv 2606.23064), figure 2.

    Args:
        encoder_hidden_size: width of the encoder's first stage.
        downsampling_ratios: strides of the encoder's stages; reversed for the decoder.
        channel_multiples: width of each stage as a multiple of the first's.
        decoder_channels: width of the decoder's last stage.
        decoder_input_channels: number of latent channels.
        audio_channels: 1 for mono, 2 for stereo.
        sampling_rate: of the waveform, in Hz.
        filterbank_bands: number of bands of an orthonormal filter bank in front of the encoder and behind the
            decoder; 1 for none. The hop is `filterbank_bands` times the product of `downsampling_ratios`.
        filterbank_type: `"lapped"`, the bands as they are, or `"noise_excited"`, their magnitudes alone, with
            filtered noise at the output; see `MultiBandFrontEnd` and `NoiseExcitedFrontEnd`.
        filterbank_scales: typical magnitudes of the bands, by which they are divided.
        filterbank_exponent: compression of the bands' magnitudes; 1 for none.
        linear_shortcut: whether a linear path leads around the CNN; see `fit_linear_shortcut`. Needs a filter
            bank.
        context_type: `"mamba"`, `"transformer"` or `"none"`.
        num_context_layers: layers of the context stack, in the encoder and in the decoder.
        context_hidden_size: width of the context stack.
        latents_mean, latents_std: statistics of the latents over a data set, one number per channel.
        bottleneck: `"gaussian"`, where the encoder gives mean and scale of each latent, `"sigma"`, where it
            gives the mean and the noise is of the scale `sigma` (see `sigma_noise`), or
            `"soft_normalization"`, where the latents are points (see `SoftNormalization`).
        sigma: of the bottleneck `"sigma"`.
        latent_noise: standard deviation of noise that `decode` adds in evaluation mode, in units of
            `latents_std`, or of 1 without that; 0 for none.
        regularizer: what shaped the latents, for the record; the model does not read it.
    """

    _supports_gradient_checkpointing = True
    _supports_group_offloading = False
    _no_split_modules = ["OobleckEncoderBlock", "OobleckDecoderBlock", "ContextStack"]
    _repeated_blocks = ["OobleckEncoderBlock", "OobleckDecoderBlock"]

    @register_to_config
    def __init__(
        self,
        encoder_hidden_size: int = 128,
        downsampling_ratios: list[int] = [2, 4, 4, 8, 8],  # noqa: B006 (as diffusers has it in the config)
        channel_multiples: list[int] = [1, 2, 4, 8, 16],  # noqa: B006
        decoder_channels: int = 128,
        decoder_input_channels: int = 64,
        audio_channels: int = 2,
        sampling_rate: int = 44100,
        filterbank_bands: int = 1,
        filterbank_type: str = "lapped",
        filterbank_scales: list[float] | None = None,
        filterbank_exponent: float = 1.0,
        linear_shortcut: bool = False,
        context_type: str = "mamba",
        num_context_layers: int = 2,
        context_hidden_size: int = 512,
        latents_mean: list[float] | None = None,
        latents_std: list[float] | None = None,
        bottleneck: str = "gaussian",
        sigma: float | None = None,
        latent_noise: float = 0.0,
        regularizer: dict[str, Any] | None = None,
    ):
        super().__init__()
        check_config(self.config)
        self.hop_length = filterbank_bands * math.prod(downsampling_ratios)
        self.sampling_rate = sampling_rate
        self.filterbank = make_front_end(
            filterbank_type, filterbank_bands, filterbank_scales, filterbank_exponent
        )
        in_factor = 1 if self.filterbank is None else self.filterbank.in_factor * filterbank_bands
        out_factor = 1 if self.filterbank is None else self.filterbank.out_factor * filterbank_bands

        def context(channels):
            return make_context(context_type, channels, context_hidden_size, num_context_layers)

        self.encoder = OobleckEncoder(
            hidden_size=encoder_hidden_size,
            audio_channels=audio_channels * in_factor,
            downsampling_ratios=downsampling_ratios,
            channel_multiples=channel_multiples,
            out_channels=projection_channels(bottleneck, decoder_input_channels),
            context=context(encoder_hidden_size * channel_multiples[-1]),
        )
        self.decoder = OobleckDecoder(
            channels=decoder_channels,
            input_channels=decoder_input_channels,
            audio_channels=audio_channels * out_factor,
            upsampling_ratios=downsampling_ratios[::-1],
            channel_multiples=channel_multiples,
            context=context(decoder_channels * channel_multiples[-1]),
        )

        self.normalization = (
            SoftNormalization(decoder_input_channels) if bottleneck == "soft_normalization" else None
        )
        self.shortcut = None
        if linear_shortcut:
            if self.filterbank is None:
                raise ValueError("`linear_shortcut` needs `filterbank_bands` > 1.")
            self.shortcut = LinearShortcut(
                audio_channels * in_factor,
                audio_channels * out_factor,
                decoder_input_channels,
                math.prod(downsampling_ratios),
            )

        self.use_slicing = False
        self.use_tiling = False
        #: Longer signals than this many frames are processed in tiles of it after `enable_tiling()`.
        self.tile_frames = max(1, 10 * sampling_rate // self.hop_length)
        front_end_reach = 0 if self.filterbank is None else self.filterbank.reach
        samples = (self.encoder.reach + front_end_reach) * filterbank_bands
        self._encoder_reach = math.ceil(samples / self.hop_length)
        self._decoder_reach = math.ceil(
            self.decoder.reach + front_end_reach * filterbank_bands / self.hop_length
        )
        with torch.no_grad():
            self.encoder.conv2.bias[decoder_input_channels:] = INITIAL_SCALE

    @property
    def frame_rate(self) -> float:
        """Latent frames per second."""
        return self.sampling_rate / self.hop_length

    def fold_weight_norm(self) -> "AutoencoderStar":
        """Compute every normalized weight once, for inference. Call it again after a change in place."""
        for module in self.modules():
            if isinstance(module, _WeightNormConvolution):
                module.fold()
        return self

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile what takes the time of `encode` and `decode`: the CNN's blocks, as `torch.compile` does.

        `nn.Module.compile` would compile `forward` alone, which no pipeline calls.
        """
        self.compile_repeated_blocks(*args, **kwargs)

    @torch.no_grad()
    def fit_linear_shortcut(self, waveforms: Iterable[torch.Tensor]) -> torch.Tensor:
        """Start as a linear codec of the front end's features: their principal components over `waveforms`.

        The CNN's outputs are set to zero, so that training begins from there.

        Args:
            waveforms: batches `(batch, audio_channels, samples)`, samples a multiple of the hop.

        Returns:
            The share of the features' variance that the latents keep.

        Raises:
            ValueError: there is no shortcut, or too few waveforms.
        """
        if self.shortcut is None:
            raise ValueError("`fit_linear_shortcut` needs a model made with `linear_shortcut=True`.")
        features = (self.filterbank.analyze(waveform) for waveform in waveforms)
        kept = self.shortcut.fit(features, self.filterbank.gain, self.filterbank.offset)
        self.encoder.conv2.scale_(0.0)
        self.decoder.conv2.scale_(0.0)
        return kept

    def _encode_features(self, x: torch.Tensor, first_frame: int = 0) -> torch.Tensor:
        if x.shape[-1] % self.hop_length:
            x = F.pad(x, (0, -x.shape[-1] % self.hop_length))
        if self.filterbank is not None:
            x = self.filterbank.analyze(x)
        features = self.encoder.features(to_channels_last(x))
        if self.shortcut is None:
            return features
        return torch.cat([features, self.shortcut.to_latents(x).unsqueeze(2)], dim=1)

    def _encode(self, x: torch.Tensor) -> torch.Tensor:
        if self.use_tiling and x.shape[-1] > self.tile_frames * self.hop_length:
            features = map_tiles(
                self._encode_features,
                x,
                self.tile_frames,
                self._encoder_reach,
                self.hop_length,
                1,
                GRID_STEPS,
            )
        else:
            features = self._encode_features(x)
        if self.shortcut is None:
            return from_channels_last(self.encoder.project(features))
        channels = self.config.decoder_input_channels
        features, linear = features.split([features.shape[1] - channels, channels], dim=1)
        parameters = from_channels_last(self.encoder.project(features))
        return parameters + F.pad(linear.squeeze(2), (0, 0, 0, parameters.shape[1] - channels))

    def _decode_features(self, features: torch.Tensor, first_frame: int = 0) -> torch.Tensor:
        if self.shortcut is None:
            x = from_channels_last(self.decoder.synthesize(features))
        else:
            channels = self.config.decoder_input_channels
            features, latents = features.split([features.shape[1] - channels, channels], dim=1)
            linear = self.shortcut.from_latents(latents.squeeze(2))
            x = from_channels_last(self.decoder.synthesize(features)) + linear
        if self.filterbank is None:
            return x
        return self.filterbank.synthesize(x, first_frame * self.hop_length // self.config.filterbank_bands)

    def _decode(self, z: torch.Tensor) -> torch.Tensor:
        latents = to_channels_last(z)
        features = self.decoder.expand(latents)
        if self.shortcut is not None:
            features = torch.cat([features, latents.to(features.dtype)], dim=1)
        if self.use_tiling and z.shape[-1] > self.tile_frames:
            return map_tiles(
                self._decode_features,
                features,
                self.tile_frames,
                self._decoder_reach,
                1,
                self.hop_length,
                GRID_STEPS,
            )
        return self._decode_features(features)

    def _latent_noise(self, z: torch.Tensor, generator: Generators) -> torch.Tensor:
        noise = self.config.latent_noise * normal_numbers(z, generator)(*z.shape[1:])
        if self.config.latents_std is None:
            return noise
        return noise * torch.tensor(self.config.latents_std, dtype=z.dtype, device=z.device)[:, None]

    def _by_slice(self, function, x: torch.Tensor) -> torch.Tensor:
        if self.use_slicing and x.shape[0] > 1:
            return torch.cat([function(row) for row in x.split(1)])
        return function(x)

    @apply_forward_hook
    def encode(self, x: torch.Tensor, return_dict: bool = True):
        """Encode a waveform.

        Args:
            x: `(batch, audio_channels, samples)` in [-1, 1], any length of at least one sample; zeros are
                appended up to a whole number of hops.

        Returns:
            `AutoencoderStarEncoderOutput` with `latent_dist` over
            `(batch, latent_channels, ⌈samples / hop⌉)`, or a tuple of it.

        Raises:
            ValueError: if `x` has another number of dimensions or channels, or no sample.
        """
        channels = self.config.audio_channels
        if x.ndim != 3 or x.shape[1] != channels or x.shape[2] == 0:
            raise ValueError(
                f"`x` must be a waveform of shape (batch, {channels}, samples > 0), not {tuple(x.shape)}."
            )
        parameters = self._by_slice(self._encode, x)
        if self.normalization is not None:
            parameters = self.normalization(parameters)
        posterior = make_posterior(parameters, self.config.bottleneck, self.config.sigma)
        return AutoencoderStarEncoderOutput(latent_dist=posterior) if return_dict else (posterior,)

    @apply_forward_hook
    def decode(self, z: torch.Tensor, return_dict: bool = True, generator: Generators = None):
        """Decode latents.

        Args:
            z: `(batch, latent_channels, frames)`.
            generator: of the noise that `latent_noise` adds in evaluation mode, one for all or a list with
                one for each member of the batch. Without that noise, decoding is deterministic.

        Returns:
            `AutoencoderStarDecoderOutput` with `sample` `(batch, audio_channels, frames · hop_length)`, or
            a tuple of it.

        Raises:
            ValueError: if `z` has another number of dimensions or channels, or no frame, or if there are too
                few generators.
        """
        channels = self.config.decoder_input_channels
        if z.ndim != 3 or z.shape[1] != channels or z.shape[2] == 0:
            raise ValueError(
                f"`z` must be latents of shape (batch, {channels}, frames > 0), not {tuple(z.shape)}."
            )
        if self.config.latent_noise > 0 and not self.training:
            z = z + self._latent_noise(z, generator)
        if self.normalization is not None:
            z = self.normalization.inverse(z)
        sample = self._by_slice(self._decode, z)
        return AutoencoderStarDecoderOutput(sample=sample) if return_dict else (sample,)

    def forward(
        self,
        sample: torch.Tensor,
        sample_posterior: bool = False,
        return_dict: bool = True,
        generator: Generators = None,
    ):
        """Reconstruct `sample` `(batch, audio_channels, samples)` from a draw of the posterior or its mean.

        Args:
            generator: of the posterior's noise and then of the decoder's; see `decode`.

        Returns:
            `AutoencoderStarOutput`, or a tuple of the reconstruction.
        """
        posterior = self.encode(sample).latent_dist
        z = posterior.sample(generator) if sample_posterior else posterior.mode()
        reconstruction = self.decode(z, generator=generator).sample[..., : sample.shape[-1]]
        if not return_dict:
            return (reconstruction,)
        return AutoencoderStarOutput(sample=reconstruction, latent_dist=posterior)
