"""What an autoencoder's training is told."""

from dataclasses import dataclass
from typing import Any

import torch

from engine.arguments import check_keywords, group, option
from engine.optimization import OptimizerArguments
from engine.run_setup import TrainingArguments, check_loss_weights
from loaders.audio_data import AudioDataArguments
from star_hf.autoencoder import AutoencoderStar
from star_hf.losses import MultiResolutionSTFTLoss, MultiScaleSTFTDiscriminator
from star_hf.regularizers import isotropic_kl, star_loss

ADVERSARIAL = ("adversarial", "feature_matching")
LOSSES = ("stft", "waveform", "kl", *ADVERSARIAL)
FREEZE = ("nothing", "encoder")
DISCRIMINATOR = "discriminator"


@dataclass
class RegularizerArguments:
    name: str = option("isotropic", "isotropic: one β for all channels; star: β grows over the channels")
    beta: float = option(1e-6, "isotropic: β")
    beta_min: float = option(1e-4, "star: β of the first channel")
    beta_max: float = option(4e-4, "star: β of the last channel")
    growth: str = option("gamma", "star: gamma, linear or step")
    gamma: float = option(2.0, "star: exponent of the gamma curve")
    warmup_steps: int = option(0, "linear warm-up of all β from 0")

    def __call__(self, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
        if self.name == "isotropic":
            return isotropic_kl(mean, std, self.beta)
        return star_loss(mean, std, self.beta_min, self.beta_max, self.growth, self.gamma)


@dataclass
class PosteriorNoiseArguments:
    start_step: int = option(0, "the decoder sees posterior means up to here")
    warmup_steps: int = option(0, "then the noise grows linearly to the posterior's std")


@dataclass
class AdversarialArguments:
    start_step: int = option(0, "from here on, every second step trains the discriminator")
    discriminator: dict[str, Any] = option({}, "what differs from MultiScaleSTFTDiscriminator's defaults")
    optimizer: OptimizerArguments = group(OptimizerArguments, learning_rate=3e-4)


@dataclass
class AutoencoderArguments(TrainingArguments):
    model: dict[str, Any] = option({}, "what differs from AutoencoderStar's default configuration")
    init_from: str | None = option(
        None, "start from these weights: a run's folder or a from_pretrained folder"
    )
    freeze: str = option("nothing", "encoder: the latents stay as they are, only the decoder trains")
    data: AudioDataArguments = group(AudioDataArguments)
    losses: dict[str, float] = option(
        {"stft": 1.0, "kl": 1.0}, f"weights of {', '.join(LOSSES)}; kl's is beside the β"
    )
    stft: dict[str, Any] = option({}, "what differs from MultiResolutionSTFTLoss's defaults")
    regularizer: RegularizerArguments = group(RegularizerArguments)
    posterior_noise: PosteriorNoiseArguments = group(PosteriorNoiseArguments)
    adversarial: AdversarialArguments = group(AdversarialArguments)
    report_clips: int = option(4, "held-out clips to hear and see in a report")

    def is_adversarial(self) -> bool:
        return any(self.losses.get(name) for name in ADVERSARIAL)

    def check(self) -> None:
        super().check()
        check_loss_weights(self.losses, LOSSES)
        if not any(self.losses.values()):
            raise ValueError(f"losses needs a weight greater than 0, got {self.losses}")
        check_keywords("model", self.model, AutoencoderStar)
        check_keywords("stft", self.stft, MultiResolutionSTFTLoss)
        check_keywords(
            "adversarial.discriminator", self.adversarial.discriminator, MultiScaleSTFTDiscriminator
        )
        self.adversarial.optimizer.check("adversarial.optimizer")
        if self.regularizer.name not in ("isotropic", "star"):
            raise ValueError(f"regularizer.name must be isotropic or star, got {self.regularizer.name!r}")
        if self.init_from is not None and self.model:
            raise ValueError("init_from brings its own model configuration: leave `model` empty")
        if self.freeze not in FREEZE:
            raise ValueError(f"freeze must be {' or '.join(FREEZE)}, got {self.freeze!r}")
        if self.freeze == "encoder" and self.losses.get("kl"):
            raise ValueError(
                "freeze 'encoder' leaves nothing for the KL to train: set losses.kl to 0, "
                f"got {self.losses['kl']}"
            )
