"""What an autoencoder's training is told."""

from dataclasses import dataclass
from typing import Any

from engine.arguments import check_keywords, group, option
from engine.optimization import OptimizerArguments
from engine.run_setup import TrainingArguments, check_loss_weights
from loaders.audio_data import AudioDataArguments
from star_hf.autoencoder import AutoencoderStar
from star_hf.losses import MultiResolutionSTFTLoss, MultiScaleSTFTDiscriminator, PhaseLoss
from tasks.contradictions import refuse_contradictions
from tasks.objective_arguments import (
    ContrastiveArguments,
    FlowProbeArguments,
    LatentNoiseArguments,
    RegressorArguments,
    SemanticArguments,
)
from tasks.regularizer_arguments import RegularizerArguments

RECONSTRUCTION = ("stft", "waveform", "phase", "stereo_correlation")
REGULARIZERS = ("kl", "moments", "mean_energy")
OBJECTIVES = ("semantic", "regressors", "contrastive", "flow_probe")
ADVERSARIAL = ("adversarial", "feature_matching")
LOSSES = (*RECONSTRUCTION, *REGULARIZERS, *OBJECTIVES, *ADVERSARIAL)
FREEZE = ("nothing", "encoder", "decoder")
DISCRIMINATOR = "discriminator"


@dataclass
class PosteriorNoiseArguments:
    start_step: int = option(0, "the decoder sees posterior means up to here")
    warmup_steps: int = option(0, "then the noise grows linearly to the posterior's std")


@dataclass
class AdversarialArguments:
    start_step: int = option(0, "from here on, every second step trains the discriminator")
    reaches_encoder: bool = option(
        True, "false: adversarial and feature matching gradients train the decoder alone, which decodes twice"
    )
    discriminator: dict[str, Any] = option({}, "what differs from MultiScaleSTFTDiscriminator's defaults")
    optimizer: OptimizerArguments = group(OptimizerArguments, learning_rate=3e-4)


@dataclass
class AutoencoderArguments(TrainingArguments):
    model: dict[str, Any] = option({}, "what differs from AutoencoderStar's default configuration")
    init_from: str | None = option(
        None,
        "start from these weights: a run's folder or a from_pretrained folder; its bottleneck becomes the "
        "regularizer's",
    )
    freeze: str = option(
        "nothing",
        "encoder: the latents stay as they are, only the decoder trains; decoder: its CNN stays, the encoder "
        "and both context stacks train",
    )
    data: AudioDataArguments = group(AudioDataArguments)
    losses: dict[str, float] = option({"stft": 1.0, "kl": 1.0}, f"weights of {', '.join(LOSSES)}")
    stft: dict[str, Any] = option({}, "what differs from MultiResolutionSTFTLoss's defaults")
    phase: dict[str, Any] = option({}, "what differs from PhaseLoss's defaults")
    regularizer: RegularizerArguments = group(RegularizerArguments)
    posterior_noise: PosteriorNoiseArguments = group(PosteriorNoiseArguments)
    latent_noise: LatentNoiseArguments = group(LatentNoiseArguments)
    semantic: SemanticArguments = group(SemanticArguments)
    regressors: RegressorArguments = group(RegressorArguments)
    contrastive: ContrastiveArguments = group(ContrastiveArguments)
    flow_probe: FlowProbeArguments = group(FlowProbeArguments)
    adversarial: AdversarialArguments = group(AdversarialArguments)
    report_clips: int = option(4, "held-out clips to hear and see in a report")

    def is_adversarial(self) -> bool:
        return any(self.losses.get(name) for name in ADVERSARIAL)

    def check(self) -> None:
        super().check()
        check_loss_weights(self.losses, LOSSES)
        if not any(self.losses.values()):
            raise ValueError(f"losses needs a weight greater than 0, got {self.losses}")
        of_regularizer = ("bottleneck", "sigma", "latent_noise", "regularizer")
        check_keywords("model", self.model, AutoencoderStar, reserved=of_regularizer)
        check_keywords("stft", self.stft, MultiResolutionSTFTLoss)
        check_keywords("phase", self.phase, PhaseLoss)
        check_keywords(
            "adversarial.discriminator", self.adversarial.discriminator, MultiScaleSTFTDiscriminator
        )
        self.adversarial.optimizer.check("adversarial.optimizer")
        self.regularizer.check()
        if self.init_from is not None and self.model:
            raise ValueError("init_from brings its own model configuration: leave `model` empty")
        if self.freeze not in FREEZE:
            raise ValueError(f"freeze must be one of {', '.join(FREEZE)}, got {self.freeze!r}")
        refuse_contradictions(self)
