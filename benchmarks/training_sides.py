"""The two sides of `train_step.py`: the same recipes with the library, and in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import plain
import torch
from diffusers import AutoencoderOobleck
from torch import nn
from transformers import Qwen3Config

from star_hf.autoencoder import AutoencoderStar
from star_hf.flow import flow_matching_loss, interpolate, velocity_target
from star_hf.generation import StarGenConfig, StarGenModel
from star_hf.losses import (
    MultiResolutionSTFTLoss,
    MultiScaleSTFTDiscriminator,
    feature_matching_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
)
from star_hf.regularizers import isotropic_kl

DTYPES = {"float32": None, "bfloat16": torch.bfloat16}
SPECTRAL, ADVERSARIAL, FEATURE_MATCHING = 1.0, 0.1, 5.0
# Stable Audio Open's 1e-4, in the convention without the ½ that diffusers' posterior shares.
DOUBLED_KL = 1e-4
LEARNING_RATES = {"autoencoder": 1.5e-4, "discriminator": 3e-4, "generator": 1.5e-4}
TEXT_TOKENS = 16
# Of every size of the autoencoder.
HOP, SAMPLING_RATE = 2048, 44100


@dataclass(frozen=True)
class Size:
    """What differs from Stable Audio Open's autoencoder and discriminator, and the generator's Qwen3."""

    autoencoder: dict[str, int] = field(default_factory=dict)
    discriminator: dict[str, int] = field(default_factory=dict)
    backbone: dict[str, int] = field(default_factory=dict)


SIZES = {
    # Qwen3-0.6B's widths, but 8 of its 28 layers: two models and their optimizers are to fit side by side.
    "full": Size(
        backbone={
            "hidden_size": 1024,
            "intermediate_size": 3072,
            "num_hidden_layers": 8,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "vocab_size": 1024,
        }
    ),
    "tiny": Size(
        {"encoder_hidden_size": 8, "decoder_channels": 8, "decoder_input_channels": 4},
        {"filters": 4},
        {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "vocab_size": 64,
        },
    ),
}


@dataclass(frozen=True)
class Setting:
    size: str
    batch: int
    crop: int
    precision: str
    device: str
    careful: bool = False

    def autocast(self) -> AbstractContextManager:
        dtype = DTYPES[self.precision]
        return nullcontext() if dtype is None else torch.autocast(self.device, dtype=dtype)


@dataclass(frozen=True)
class Batch:
    """Audio and a posterior's noise; for the generator noise, times, text and masks, too."""

    waveform: torch.Tensor
    posterior_noise: torch.Tensor
    noise: torch.Tensor
    times: torch.Tensor
    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    audio_mask: torch.Tensor

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        return Batch(**{name: function(tensor) for name, tensor in vars(self).items()})


def make_batch(setting: Setting) -> Batch:
    """Tones over noise in stereo; captions of different lengths."""
    generator = torch.Generator().manual_seed(3)
    batch, channels, frames = setting.batch, latent_channels(setting.size), setting.crop // HOP

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    frequencies = 100 * 2 ** (5 * torch.rand(batch, 2, 8, 1, generator=generator))
    time = torch.arange(setting.crop) / SAMPLING_RATE
    tones = torch.sin(2 * torch.pi * frequencies * time).mean(dim=2)
    lengths = torch.randint(1, TEXT_TOKENS + 1, (batch, 1), generator=generator)
    tensors = {
        "waveform": 0.5 * tones + 0.05 * normal(batch, 2, setting.crop),
        "posterior_noise": normal(batch, channels, frames),
        "noise": normal(batch, frames, channels),
        "times": torch.sigmoid(normal(batch)),
        "input_ids": torch.randint(0, 64, (batch, TEXT_TOKENS), generator=generator),
        "attention_mask": torch.arange(TEXT_TOKENS, 0, -1) <= lengths,
        "audio_mask": torch.ones(batch, frames, dtype=torch.bool),
    }
    return Batch(**tensors).map(lambda tensor: tensor.to(setting.device))


class Side:
    """One implementation of a recipe: for each step a loss, and the module of that name that it trains.

    `fixed` is what the steps need beside them: the spectral loss, or the autoencoder that encodes.
    """

    steps: tuple[str, ...]
    has_checkpointing = True

    def __init__(self, setting: Setting, modules: dict[str, nn.Module], fixed: nn.Module, **adamw) -> None:
        self.setting, self.modules, self.fixed = setting, modules, fixed
        for module in (*modules.values(), fixed):
            module.to(setting.device)
        self.optimizers = {
            name: torch.optim.AdamW(
                module.parameters(), lr=LEARNING_RATES[name], betas=(0.8, 0.99), weight_decay=1e-3, **adamw
            )
            for name, module in modules.items()
        }

    def loss(self, step: str, batch: Batch) -> torch.Tensor:
        return getattr(self, f"{step}_loss")(batch)

    def train(self, step: str, batch: Batch) -> None:
        self.optimizers[step].zero_grad()
        self.loss(step, batch).backward()
        self.optimizers[step].step()

    def to(self, dtype: torch.dtype) -> None:
        for module in (*self.modules.values(), self.fixed):
            module.to(dtype)

    def set_checkpointing(self, wanted: bool) -> None:
        raise NotImplementedError


class AutoencoderSide(Side):
    steps = ("autoencoder", "discriminator")

    def reconstruct(self, batch: Batch):
        with self.setting.autocast():
            posterior = self.modules["autoencoder"].encode(batch.waveform).latent_dist
            latents = posterior.mean + posterior.std * batch.posterior_noise
            return self.modules["autoencoder"].decode(latents).sample.to(batch.waveform.dtype), posterior

    def judge(self, waveform: torch.Tensor):
        with self.setting.autocast():
            return self.modules["discriminator"](waveform)


class PlainAutoencoder(AutoencoderSide):
    """As stable-audio-tools runs it: in its step the discriminator's loss goes back through the autoencoder,
    and in the autoencoder's step the features of the recordings get gradients, too.

    A `careful` setting spares it both.
    """

    has_checkpointing = False

    def __init__(self, setting: Setting) -> None:
        discriminator = plain.Discriminator(**SIZES[setting.size].discriminator)
        discriminator.load_state_dict(old_keys(make_discriminator(setting.size).state_dict()))
        stft = MultiResolutionSTFTLoss(a_weighting=True)
        gains = {size: getattr(stft, f"gain_{size}") for size in stft.fft_sizes}
        modules = {"autoencoder": make_oobleck(setting.size).train(), "discriminator": discriminator}
        super().__init__(setting, modules, plain.SpectralLoss(gains))

    def autoencoder_loss(self, batch: Batch) -> torch.Tensor:
        reconstruction, posterior = self.reconstruct(batch)
        with torch.set_grad_enabled(not self.setting.careful):
            _, real_features = self.judge(batch.waveform)
        logits, features = self.judge(reconstruction)
        return (
            SPECTRAL * self.fixed(reconstruction, batch.waveform)
            + DOUBLED_KL * posterior.kl()
            + ADVERSARIAL * plain.adversarial_loss(logits)
            + FEATURE_MATCHING * plain.feature_matching_loss(real_features, features)
        )

    def discriminator_loss(self, batch: Batch) -> torch.Tensor:
        with torch.set_grad_enabled(not self.setting.careful):
            reconstruction, _ = self.reconstruct(batch)
        return plain.discriminator_loss(self.judge(batch.waveform)[0], self.judge(reconstruction)[0])


class OurAutoencoder(AutoencoderSide):
    def __init__(self, setting: Setting) -> None:
        modules = {
            "autoencoder": make_autoencoder(setting.size).train(),
            "discriminator": make_discriminator(setting.size),
        }
        super().__init__(setting, modules, MultiResolutionSTFTLoss(a_weighting=True), fused=True)

    def set_checkpointing(self, wanted: bool) -> None:
        vae = self.modules["autoencoder"]
        vae.enable_gradient_checkpointing() if wanted else vae.disable_gradient_checkpointing()

    def autoencoder_loss(self, batch: Batch) -> torch.Tensor:
        reconstruction, posterior = self.reconstruct(batch)
        with torch.no_grad():
            real = self.judge(batch.waveform)
        self.modules["discriminator"].requires_grad_(False)
        generated = self.judge(reconstruction)
        self.modules["discriminator"].requires_grad_(True)
        return (
            SPECTRAL * self.fixed(reconstruction, batch.waveform)
            + isotropic_kl(posterior.mean, posterior.std, 2 * DOUBLED_KL)
            + ADVERSARIAL * hinge_generator_loss(generated.logits)
            + FEATURE_MATCHING * feature_matching_loss(real.features, generated.features)
        )

    def discriminator_loss(self, batch: Batch) -> torch.Tensor:
        with torch.no_grad():
            reconstruction, _ = self.reconstruct(batch)
        output = self.judge(torch.cat([batch.waveform, reconstruction]))
        real, generated = zip(*(logits.chunk(2) for logits in output.logits), strict=True)
        return hinge_discriminator_loss(real, generated)


class GeneratorSide(Side):
    steps = ("generator",)

    def __init__(self, setting: Setting, vae: nn.Module, generator: nn.Module, **adamw) -> None:
        super().__init__(setting, {"generator": generator.train()}, vae.eval(), **adamw)

    @torch.no_grad()
    def encode(self, batch: Batch) -> torch.Tensor:
        posterior = self.fixed.encode(batch.waveform).latent_dist
        return (posterior.mean + posterior.std * batch.posterior_noise).transpose(1, 2).to(batch.noise.dtype)

    def velocity(self, noisy: torch.Tensor, batch: Batch):
        texts = batch.input_ids, batch.attention_mask
        return self.modules["generator"](noisy, batch.times, *texts, batch.audio_mask)


class PlainGenerator(GeneratorSide):
    def __init__(self, setting: Setting) -> None:
        model = make_generator(setting.size)
        generator = plain.Generator(model.audio_embedding, model.backbone, model.flow_head)
        super().__init__(setting, make_oobleck(setting.size), generator)

    def set_checkpointing(self, wanted: bool) -> None:
        backbone = self.modules["generator"].backbone
        backbone.gradient_checkpointing_enable() if wanted else backbone.gradient_checkpointing_disable()

    def generator_loss(self, batch: Batch) -> torch.Tensor:
        with self.setting.autocast():
            latents = self.encode(batch)
            times = batch.times[:, None, None]
            velocity = self.velocity((1 - times) * batch.noise + times * latents, batch)
        error = (velocity.float() - (latents - batch.noise)) ** 2 * batch.audio_mask[..., None]
        return error.sum() / (batch.audio_mask.sum() * latents.shape[-1])


class OurGenerator(GeneratorSide):
    def __init__(self, setting: Setting) -> None:
        vae = make_autoencoder(setting.size).eval().fold_weight_norm()
        super().__init__(setting, vae, make_generator(setting.size), fused=True)

    def set_checkpointing(self, wanted: bool) -> None:
        model = self.modules["generator"]
        model.gradient_checkpointing_enable() if wanted else model.gradient_checkpointing_disable()

    def generator_loss(self, batch: Batch) -> torch.Tensor:
        with self.setting.autocast():
            latents = self.encode(batch)
            velocity = self.velocity(interpolate(batch.noise, latents, batch.times), batch).velocity
        return flow_matching_loss(velocity, velocity_target(batch.noise, latents), batch.audio_mask)


SIDES = {
    "autoencoder": {"plain": PlainAutoencoder, "ours": OurAutoencoder},
    "generator": {"plain": PlainGenerator, "ours": OurGenerator},
}


def latent_channels(size: str) -> int:
    return SIZES[size].autoencoder.get("decoder_input_channels", 64)


def make_autoencoder(size: str) -> AutoencoderStar:
    torch.manual_seed(0)
    return AutoencoderStar(context_type="none", **SIZES[size].autoencoder)


def make_oobleck(size: str) -> AutoencoderOobleck:
    model = AutoencoderOobleck(**SIZES[size].autoencoder)
    model.load_state_dict(make_autoencoder(size).state_dict())
    return model


def make_discriminator(size: str) -> MultiScaleSTFTDiscriminator:
    torch.manual_seed(1)
    return MultiScaleSTFTDiscriminator(**SIZES[size].discriminator)


def make_generator(size: str) -> StarGenModel:
    torch.manual_seed(2)
    text_config = Qwen3Config(**SIZES[size].backbone)
    model = StarGenModel(StarGenConfig(text_config=text_config, latent_channels=latent_channels(size)))
    # It starts at zero; anything else sends a gradient to the layers before it.
    nn.init.normal_(model.flow_head.weight, std=0.02)
    return model


def old_keys(named: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Names of PyTorch's old weight norm in place of its parametrization's."""
    names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    for new, old in names.items():
        named = {name.replace(new, old): value for name, value in named.items()}
    return named
