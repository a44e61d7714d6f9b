"""What an autoencoder is trained for: reconstruction under a regularizer, and against a discriminator."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel
from torch import nn
from torch.distributed.fsdp import FSDPModule

from engine.noise import SampleNoise
from engine.reports import Report, comparison_figure, kl_profile_figure
from engine.schedules import ramp
from engine.task import StepOutput, Task
from loaders.audio_data import CropLoader
from star_hf.evaluation.reconstruction import mel_distance, stft_distance
from star_hf.losses import (
    MultiResolutionSTFTLoss,
    MultiScaleSTFTDiscriminator,
    PhaseLoss,
    feature_matching_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
    stereo_correlation_loss,
)
from star_hf.regularizers import channel_kl, mean_energy, moment_loss
from tasks.autoencoder_arguments import DISCRIMINATOR, AutoencoderArguments
from tasks.autoencoder_model import freeze, load_autoencoder, regularizer_record
from tasks.latent_metrics import latent_metrics
from tasks.noisy_autoencoder import NoisyAutoencoder
from tasks.objectives import make_objectives

AUTOENCODER = "autoencoder"
SHORTCUT_CROPS = 2000


class AutoencoderTask(Task):
    """Reconstruction from noisy latents.

    With a discriminator, from `adversarial.start_step` on, steps train the autoencoder and the discriminator
    in turn, each on a batch of its own, as Stable Audio Open's recipe does.
    """

    best_metric = "stft_distance"

    def __init__(self, arguments: AutoencoderArguments, log: Any) -> None:
        self.arguments = arguments
        self.batch_size = arguments.data.batch_size
        self.vae = load_autoencoder(arguments)
        self.shaped_before = self.vae.config.regularizer
        if arguments.gradient_checkpointing:
            self.vae.enable_gradient_checkpointing()
        config = self.vae.config
        if config.audio_channels != 2 and arguments.losses.get("stereo_correlation"):
            raise ValueError(
                "losses.stereo_correlation needs a stereo model, this one has "
                f"{config.audio_channels} channel"
            )
        self.stft_loss = MultiResolutionSTFTLoss(**{"sampling_rate": config.sampling_rate, **arguments.stft})
        self.phase_loss = PhaseLoss(**arguments.phase)
        self.objectives = make_objectives(arguments, self.vae)
        self.data = CropLoader(
            arguments.data,
            config.sampling_rate,
            config.audio_channels,
            arguments.seed,
            log.say,
            with_captions="contrastive" in self.objectives,
        )
        self.bad_files = self.data.bad_files
        if arguments.init_from is None and self.vae.shortcut is not None:
            self._fit_shortcut(log)
        freeze(self.vae, arguments.freeze)

        self.loss_weights = dict(arguments.losses)
        autoencoder = NoisyAutoencoder(
            self.vae,
            {name: objective.module for name, objective in self.objectives.items()},
            latent_noise=arguments.latent_noise.scale,
            gradient_fraction=arguments.semantic.gradient_fraction,
            adversary_reaches_encoder=arguments.adversarial.reaches_encoder,
        )
        self.modules = {AUTOENCODER: autoencoder.train()}
        if arguments.is_adversarial():
            settings = {"audio_channels": config.audio_channels, **arguments.adversarial.discriminator}
            self.modules[DISCRIMINATOR] = MultiScaleSTFTDiscriminator(**settings).train()
            self.optimizers = {DISCRIMINATOR: arguments.adversarial.optimizer}
            self.loss_weights[DISCRIMINATOR] = 1.0

    def _fit_shortcut(self, log: Any) -> None:
        """Start from the principal components of a few passes over the clips."""
        batches = itertools.islice(self.batches(0, 0, 1), math.ceil(SHORTCUT_CROPS / self.batch_size))
        hop = self.vae.hop_length
        kept = self.vae.fit_linear_shortcut(
            batch["waveform"][..., : batch["waveform"].shape[-1] // hop * hop] for batch in batches
        )
        log.say(f"linear shortcut fitted: it keeps {100 * float(kept):.1f}% of the features' variance")

    def batches(
        self, start: int, rank: int, world_size: int, position: Any | None = None
    ) -> Iterable[dict[str, Any]]:
        return self.data.batches(start, rank, world_size, position)

    def player(self, step: int) -> str:
        after = step - self.arguments.adversarial.start_step
        trains_discriminator = DISCRIMINATOR in self.modules and after >= 0 and after % 2 == 1
        return DISCRIMINATOR if trains_discriminator else AUTOENCODER

    def compute(self, modules: dict[str, nn.Module], batch: dict[str, Any], step: int) -> StepOutput:
        waveform = batch["waveform"]
        seconds = waveform.shape[0] * waveform.shape[-1] / self.vae.config.sampling_rate
        noise = SampleNoise(batch["noise_seed"], waveform.device)
        if self.player(step) == DISCRIMINATOR:
            return StepOutput(self._discriminator_losses(modules, waveform, noise, step), seconds)
        with_adversary = DISCRIMINATOR in self.modules and step >= self.arguments.adversarial.start_step
        output = modules[AUTOENCODER](
            waveform, noise, self._noise_scale(step), self._targets(batch, step), with_adversary
        )
        values = {
            name: loss()
            for name, loss in self._losses(output, waveform, step).items()
            if self.loss_weights.get(name)
        }
        values |= output["losses"]
        if with_adversary:
            values |= self._adversarial_losses(modules[DISCRIMINATOR], output["for_adversary"], waveform)
        return StepOutput(
            values, seconds, self._latent_metrics(output["mean"].detach(), output["std"].detach())
        )

    @torch.no_grad()
    def _targets(self, batch: dict[str, Any], step: int) -> dict[str, dict[str, Any]]:
        """What each objective compares the latents with."""
        frames = -(-batch["waveform"].shape[-1] // self.vae.hop_length)
        return {name: objective.prepare(batch, frames, step) for name, objective in self.objectives.items()}

    def _losses(
        self, output: dict[str, Any], waveform: torch.Tensor, step: int
    ) -> dict[str, Callable[[], torch.Tensor]]:
        """Losses of the reconstruction and of the bottleneck, by name."""
        reconstruction, mean, std = output["reconstruction"], output["mean"], output["std"]
        regularizer = self.arguments.regularizer
        warmup = ramp(step, regularizer.warmup_steps)
        return {
            "stft": lambda: self.stft_loss.to(waveform.device)(reconstruction, waveform),
            "waveform": lambda: nn.functional.l1_loss(reconstruction, waveform),
            "phase": lambda: self.phase_loss.to(waveform.device)(reconstruction, waveform),
            "stereo_correlation": lambda: stereo_correlation_loss(reconstruction, waveform),
            "kl": lambda: regularizer.kl(mean, std, self.vae.frame_rate) * warmup,
            "moments": lambda: moment_loss(mean, regularizer.channel_moment_weight) * warmup,
            "mean_energy": lambda: mean_energy(mean) * warmup,
        }

    def _noise_scale(self, step: int) -> float:
        noise = self.arguments.posterior_noise
        return ramp(step, noise.warmup_steps, noise.start_step)

    def _adversarial_losses(
        self, discriminator: nn.Module, reconstruction: torch.Tensor, waveform: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """What the discriminator's judgement asks of the autoencoder; its own weights get no gradient."""
        # outside of DDP: there is nothing to exchange
        discriminator = extract_model_from_parallel(discriminator)
        with without_gradients(discriminator):
            generated = discriminator(reconstruction)
            values = {"adversarial": hinge_generator_loss(generated.logits)}
            if self.loss_weights.get("feature_matching"):
                with torch.no_grad():
                    real = discriminator(waveform)
                values["feature_matching"] = feature_matching_loss(real.features, generated.features)
        return {name: value for name, value in values.items() if self.loss_weights.get(name)}

    def _discriminator_losses(
        self, modules: dict[str, nn.Module], waveform: torch.Tensor, noise: SampleNoise, step: int
    ) -> dict[str, torch.Tensor]:
        """The discriminator's own loss; nothing flows back into the autoencoder."""
        with torch.no_grad():
            autoencoder = extract_model_from_parallel(modules[AUTOENCODER])
            reconstruction = autoencoder(waveform, noise, self._noise_scale(step))["reconstruction"]
        # both in one pass: the wrapped module may be called only once before its gradients are exchanged
        output = modules[DISCRIMINATOR](torch.cat([waveform, reconstruction]))
        real, generated = zip(*(logits.chunk(2) for logits in output.logits), strict=True)
        return {DISCRIMINATOR: hinge_discriminator_loss(list(real), list(generated))}

    def _latent_metrics(self, mean: torch.Tensor, std: torch.Tensor) -> dict[str, torch.Tensor]:
        return latent_metrics(mean, std, self.vae.frame_rate, self.vae.config.bottleneck == "gaussian")

    def validate(self, device: torch.device) -> dict[str, float]:
        """Mean distances over the held-out clips, decoded from the posterior's mean."""
        sums: dict[str, float] = {}
        clips = 0
        for waveform in self.data.held_out():
            waveform = waveform.to(device)
            output = self.vae(waveform)
            mean, std = output.latent_dist.mean.float(), output.latent_dist.std.float()
            values = {
                "stft_distance": stft_distance(output.sample, waveform),
                "mel_distance": mel_distance(output.sample, waveform, self.vae.config.sampling_rate),
                "waveform": nn.functional.l1_loss(output.sample, waveform),
                **self._latent_metrics(mean, std),
            }
            clips += 1
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + float(value)
        return {name: value / clips for name, value in sums.items()}

    def report(self, device: torch.device) -> Report | None:
        """The first held-out clips beside their reconstructions, and each channel's KL if there is one."""
        clips = list(itertools.islice(self.data.held_out(), self.arguments.report_clips))
        if not clips:
            return None
        rate = self.vae.config.sampling_rate
        gaussian = self.vae.config.bottleneck == "gaussian"
        pairs, profiles, audio = [], [], {}
        for index, waveform in enumerate(clips):
            output = self.vae(waveform.to(device))
            original, reconstruction = waveform[0].cpu(), output.sample[0].float().cpu()
            pairs.append((f"clip {index}", original, reconstruction))
            audio[f"clip_{index}_original"] = (original, rate)
            audio[f"clip_{index}_reconstruction"] = (reconstruction, rate)
            if gaussian:
                posterior = output.latent_dist
                profiles.append(channel_kl(posterior.mean.float(), posterior.std.float()).cpu())
        figures = {"reconstructions": comparison_figure(pairs, rate)}
        if gaussian:
            figures["channel_kl"] = kl_profile_figure(torch.stack(profiles).mean(dim=0), self.vae.frame_rate)
        return Report(audio=audio, figures=figures)

    def export(self, folder: Path) -> None:
        self.vae.register_to_config(
            regularizer=regularizer_record(self.arguments, self.shaped_before),
            latent_noise=self.arguments.latent_noise.inference_scale,
        )
        self.vae.save_pretrained(folder)
        # validation and reports stay deterministic
        self.vae.register_to_config(latent_noise=0.0)


@contextmanager
def without_gradients(module: nn.Module) -> Iterator[None]:
    """Let gradients flow through `module`, but not into its weights.

    FSDP2 fixes at a module's first use which weights get gradients: there they get them, to be thrown away.
    """
    if isinstance(module, FSDPModule):
        yield
        return
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)
