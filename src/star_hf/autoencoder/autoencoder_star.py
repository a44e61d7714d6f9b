"""`AutoencoderStar`: waveform ⇄ ordered continuous latents."""

import math
import os
from dataclasses import dataclass

import torch
from diffusers import AutoencoderOobleck
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import AutoencoderMixin
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch.nn import functional as F

from .context import make_context
from .filterbank import LappedTransform
from .layers import _WeightNormConvolution, from_channels_last, to_channels_last
from .oobleck import OobleckDecoder, OobleckEncoder
from .posterior import DiagonalGaussianPosterior
from .tiling import decoder_reach, encoder_reach, map_tiles


@dataclass
class AutoencoderStarEncoderOutput(BaseOutput):
    """`latent_dist`: the posterior over latents `(batch, latent_channels, frames)`."""

    latent_dist: DiagonalGaussianPosterior


@dataclass
class AutoencoderStarDecoderOutput(BaseOutput):
    """`sample`: the waveform `(batch, audio_channels, samples)`."""

    sample: torch.Tensor


@dataclass
class AutoencoderStarOutput(BaseOutput):
    """`sample`: the reconstruction, as long as the input; `latent_dist`: the posterior it was made from."""

    sample: torch.Tensor
    latent_dist: DiagonalGaussianPosterior


class AutoencoderStar(ModelMixin, AutoencoderMixin, ConfigMixin):
    r"""Audio autoencoder with a CNN, a bidirectional context stack and a Gaussian bottleneck (STAR-VAE).

    Encoder: waveform, CNN, context, projection to (mean, scale). Decoder: latents, context, CNN. The CNN has the
    configuration, the defaults and the parameter names of diffusers' `AutoencoderOobleck`; see `from_oobleck`.
    Source: Liu et al., "Structured Topology-Aware Regularization for Audio Reconstruction and Generation"
    (arXiv 2606.23064), figure 2.

    Args:
        encoder_hidden_size: width of the encoder's first stage.
        downsampling_ratios: strides of the encoder's stages; reversed for the decoder.
        channel_multiples: width of each stage as a multiple of the first's.
        decoder_channels: width of the decoder's last stage.
        decoder_input_channels: number of latent channels.
        audio_channels: 1 for mono, 2 for stereo.
        sampling_rate: of the waveform, in Hz.
        filterbank_bands: number of bands of an orthonormal filter bank in front of the encoder and behind the decoder;
            1 for none. The hop is `filterbank_bands` times the product of `downsampling_ratios`.
        context_type: `"mamba"`, `"transformer"` or `"none"`.
        num_context_layers: layers of the context stack, in the encoder and in the decoder.
        context_hidden_size: width of the context stack.
        latents_mean, latents_std: statistics of the latents over a data set, one number per channel, once measured.
    """

    _supports_gradient_checkpointing = True
    _supports_group_offloading = False
    _no_split_modules = ["OobleckEncoderBlock", "OobleckDecoderBlock", "ContextStack"]

    @register_to_config
    def __init__(
        self,
        encoder_hidden_size: int = 128,
        downsampling_ratios: list[int] = [2, 4, 4, 8, 8],  # noqa: B006 (diffusers' default, stored in the config)
        channel_multiples: list[int] = [1, 2, 4, 8, 16],  # noqa: B006
        decoder_channels: int = 128,
        decoder_input_channels: int = 64,
        audio_channels: int = 2,
        sampling_rate: int = 44100,
        filterbank_bands: int = 1,
        context_type: str = "mamba",
        num_context_layers: int = 2,
        context_hidden_size: int = 512,
        latents_mean: list[float] | None = None,
        latents_std: list[float] | None = None,
    ):
        super().__init__()
        if len(downsampling_ratios) != len(channel_multiples):
            raise ValueError(
                "`downsampling_ratios` and `channel_multiples` must have one entry for each stage, not "
                f"{len(downsampling_ratios)} and {len(channel_multiples)}."
            )
        if filterbank_bands != 1 and (filterbank_bands < 1 or filterbank_bands % 2):
            raise ValueError(f"`filterbank_bands` must be 1 or an even number, not {filterbank_bands}.")
        self.hop_length = filterbank_bands * math.prod(downsampling_ratios)
        self.sampling_rate = sampling_rate
        self.filterbank = LappedTransform(filterbank_bands) if filterbank_bands > 1 else None

        def context(channels):
            return make_context(context_type, channels, context_hidden_size, num_context_layers)

        self.encoder = OobleckEncoder(
            hidden_size=encoder_hidden_size,
            audio_channels=audio_channels * filterbank_bands,
            downsampling_ratios=downsampling_ratios,
            channel_multiples=channel_multiples,
            out_channels=2 * decoder_input_channels,
            context=context(encoder_hidden_size * channel_multiples[-1]),
        )
        self.decoder = OobleckDecoder(
            channels=decoder_channels,
            input_channels=decoder_input_channels,
            audio_channels=audio_channels * filterbank_bands,
            upsampling_ratios=downsampling_ratios[::-1],
            channel_multiples=channel_multiples,
            context=context(decoder_channels * channel_multiples[-1]),
        )

        self.use_slicing = False
        self.use_tiling = False
        #: Signals longer than this many frames are processed in tiles of it once `enable_tiling()` was called.
        self.tile_frames = max(1, 10 * sampling_rate // self.hop_length)
        self._encoder_reach = encoder_reach(downsampling_ratios, filterbank_bands)
        self._decoder_reach = decoder_reach(downsampling_ratios[::-1], filterbank_bands)

    @classmethod
    def from_oobleck(
        cls, pretrained: str | os.PathLike | AutoencoderOobleck, context_type: str = "none", *, subfolder=None, **config
    ) -> "AutoencoderStar":
        """Take over the weights of diffusers' `AutoencoderOobleck` (Stable Audio Open's autoencoder, for instance).

        Args:
            pretrained: a folder, a Hub id, or the model itself.
            context_type: context stack to add; it starts as the identity, so the outputs stay equal.
            subfolder: folder of the autoencoder inside a pipeline, usually `"vae"`.
            config: further arguments of `AutoencoderStar`, such as `num_context_layers`.

        Raises:
            ValueError: if a weight is missing or left over.
        """
        if not isinstance(pretrained, AutoencoderOobleck):
            pretrained = AutoencoderOobleck.from_pretrained(pretrained, subfolder=subfolder)
        shared = {name: value for name, value in pretrained.config.items() if not name.startswith("_")}
        model = cls(**shared, context_type=context_type, **config)
        weights = {name: tensor.detach() for name, tensor in pretrained.state_dict().items()}
        result = model.load_state_dict(weights, strict=False)
        missing = [name for name in result.missing_keys if ".context." not in name]
        if missing or result.unexpected_keys:
            raise ValueError(f"Not an Oobleck checkpoint: missing {missing}, unexpected {result.unexpected_keys}.")
        return model.to(dtype=pretrained.dtype, device=pretrained.device).eval()

    @property
    def frame_rate(self) -> float:
        """Latent frames per second."""
        return self.sampling_rate / self.hop_length

    def fold_weight_norm(self) -> "AutoencoderStar":
        """Compute every normalized weight once, for inference. Call it again after changing weights in place."""
        for module in self.modules():
            if isinstance(module, _WeightNormConvolution):
                module.fold()
        return self

    def _encode_features(self, x: torch.Tensor) -> torch.Tensor:
        if self.filterbank is not None:
            x = self.filterbank.analyze(x)
        return self.encoder.features(to_channels_last(x))

    def _encode(self, x: torch.Tensor) -> torch.Tensor:
        frames = x.shape[-1] // self.hop_length
        if self.use_tiling and frames > self.tile_frames:
            features = map_tiles(
                self._encode_features, x, frames, self.tile_frames, self._encoder_reach, self.hop_length, 1
            )
        else:
            features = self._encode_features(x)
        return from_channels_last(self.encoder.project(features))

    def _decode_features(self, features: torch.Tensor) -> torch.Tensor:
        x = from_channels_last(self.decoder.synthesize(features))
        return x if self.filterbank is None else self.filterbank.synthesize(x)

    def _decode(self, z: torch.Tensor) -> torch.Tensor:
        features = self.decoder.expand(to_channels_last(z))
        frames = z.shape[-1]
        if self.use_tiling and frames > self.tile_frames:
            return map_tiles(
                self._decode_features, features, frames, self.tile_frames, self._decoder_reach, 1, self.hop_length
            )
        return self._decode_features(features)

    def _by_slice(self, function, x: torch.Tensor) -> torch.Tensor:
        if self.use_slicing and x.shape[0] > 1:
            return torch.cat([function(row) for row in x.split(1)])
        return function(x)

    @apply_forward_hook
    def encode(self, x: torch.Tensor, return_dict: bool = True):
        """Encode a waveform.

        Args:
            x: `(batch, audio_channels, samples)` in [-1, 1], any length of at least one sample; zeros are appended up
                to a whole number of hops.

        Returns:
            `AutoencoderStarEncoderOutput` with `latent_dist` over `(batch, latent_channels, ⌈samples / hop⌉)`, or a
            tuple of it.

        Raises:
            ValueError: if `x` has another number of dimensions or channels, or no sample.
        """
        channels = self.config.audio_channels
        if x.ndim != 3 or x.shape[1] != channels or x.shape[2] == 0:
            raise ValueError(
                f"`x` must be a waveform of shape (batch, {channels}, samples > 0), not {tuple(x.shape)}."
            )
        x = F.pad(x, (0, -x.shape[-1] % self.hop_length))
        posterior = DiagonalGaussianPosterior(self._by_slice(self._encode, x))
        return AutoencoderStarEncoderOutput(latent_dist=posterior) if return_dict else (posterior,)

    @apply_forward_hook
    def decode(self, z: torch.Tensor, return_dict: bool = True, generator=None):
        """Decode latents.

        Args:
            z: `(batch, latent_channels, frames)`.
            generator: accepted for the sake of diffusers' pipelines; decoding is deterministic.

        Returns:
            `AutoencoderStarDecoderOutput` with `sample` `(batch, audio_channels, frames · hop_length)`, or a tuple.

        Raises:
            ValueError: if `z` has another number of dimensions or channels, or no frame.
        """
        channels = self.config.decoder_input_channels
        if z.ndim != 3 or z.shape[1] != channels or z.shape[2] == 0:
            raise ValueError(f"`z` must be latents of shape (batch, {channels}, frames > 0), not {tuple(z.shape)}.")
        sample = self._by_slice(self._decode, z)
        return AutoencoderStarDecoderOutput(sample=sample) if return_dict else (sample,)

    def forward(
        self,
        sample: torch.Tensor,
        sample_posterior: bool = False,
        return_dict: bool = True,
        generator: torch.Generator | None = None,
    ):
        """Reconstruct `sample` `(batch, audio_channels, samples)`, from a draw of the posterior or from its mean.

        Returns:
            `AutoencoderStarOutput`, or a tuple of the reconstruction.
        """
        posterior = self.encode(sample).latent_dist
        z = posterior.sample(generator) if sample_posterior else posterior.mode()
        reconstruction = self.decode(z).sample[..., : sample.shape[-1]]
        if not return_dict:
            return (reconstruction,)
        return AutoencoderStarOutput(sample=reconstruction, latent_dist=posterior)
