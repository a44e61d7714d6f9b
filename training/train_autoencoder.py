"""Train an AutoencoderStar: Phase I with a small KL, Phase II with STAR from a Phase I run.

python training/train_autoencoder.py --config training/recipes/esc10_autoencoder.yaml
python training/train_autoencoder.py --config training/recipes/esc10_autoencoder_star.yaml
"""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from arguments import check_keywords, group, option
from audio_data import AudioDataArguments, CropLoader
from run_log import RunLog
from run_setup import TrainingArguments, check_loss_weights
from schedules import ramp
from star_hf.autoencoder import AutoencoderStar
from star_hf.evaluation.reconstruction import stft_distance
from star_hf.losses import MultiResolutionSTFTLoss
from star_hf.regularizers import channel_kl, isotropic_kl, rate_kbps, star_loss
from trainer import StepOutput, run_script
from vae_loading import resolve_export, without_path

LOSSES = ("stft", "waveform", "kl")
SHORTCUT_CROPS = 2000


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
class AutoencoderArguments(TrainingArguments):
    model: dict[str, Any] = option({}, "what differs from AutoencoderStar's default configuration")
    init_from: str | None = option(
        None, "start from these weights: a run's folder or a from_pretrained folder"
    )
    data: AudioDataArguments = group(AudioDataArguments)
    losses: dict[str, float] = option(
        {"stft": 1.0, "waveform": 0.0, "kl": 1.0}, "weights; kl's is beside the β"
    )
    stft: dict[str, Any] = option({}, "what differs from MultiResolutionSTFTLoss's defaults")
    regularizer: RegularizerArguments = group(RegularizerArguments)
    posterior_noise: PosteriorNoiseArguments = group(PosteriorNoiseArguments)

    def check(self) -> None:
        super().check()
        check_loss_weights(self.losses, LOSSES)
        check_keywords("model", self.model, AutoencoderStar)
        check_keywords("stft", self.stft, MultiResolutionSTFTLoss)
        if self.regularizer.name not in ("isotropic", "star"):
            raise ValueError(f"regularizer.name must be isotropic or star, got {self.regularizer.name!r}")
        if self.init_from is not None and self.model:
            raise ValueError("init_from brings its own model configuration: leave `model` empty")


class NoisyAutoencoder(nn.Module):
    """One forward pass for training: waveform → reconstruction, mean, std, the posterior's noise scaled."""

    def __init__(self, vae: AutoencoderStar) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, waveform: torch.Tensor, noise_scale: float = 1.0) -> dict[str, torch.Tensor]:
        posterior = self.vae.encode(waveform).latent_dist
        mean, std = posterior.mean.float(), posterior.std.float()
        latents = mean + noise_scale * std * torch.randn_like(mean)
        reconstruction = self.vae.decode(latents).sample[..., : waveform.shape[-1]]
        return {"reconstruction": reconstruction.float(), "mean": mean, "std": std}


class AutoencoderTask:
    """Reconstruction from noisy latents, under a KL regularizer."""

    def __init__(self, arguments: AutoencoderArguments, log: RunLog) -> None:
        self.arguments = arguments
        self.loss_weights = arguments.losses
        self.vae = load_autoencoder(arguments)
        self.module = NoisyAutoencoder(self.vae).train()
        sampling_rate = self.vae.config.sampling_rate
        self.stft_loss = MultiResolutionSTFTLoss(**{"sampling_rate": sampling_rate, **arguments.stft})
        self.data = CropLoader(
            arguments.data, sampling_rate, self.vae.config.audio_channels, arguments.seed, log.say
        )
        self.bad_files = self.data.bad_files
        if arguments.init_from is None and self.vae.shortcut is not None:
            self._fit_shortcut(log)

    def _fit_shortcut(self, log: RunLog) -> None:
        """Start from the principal components of a few passes over the clips."""
        batch_size = self.arguments.data.batch_size
        hop = self.vae.hop_length
        crops = itertools.islice(self.batches(0, 0, 1), math.ceil(SHORTCUT_CROPS / batch_size))
        kept = self.vae.fit_linear_shortcut(
            batch["waveform"][..., : batch["waveform"].shape[-1] // hop * hop] for batch in crops
        )
        log.say(f"linear shortcut fitted: it keeps {100 * float(kept):.1f}% of the features' variance")

    def batches(self, start: int, rank: int, world_size: int) -> Iterable[dict[str, Any]]:
        return self.data.batches(start, rank, world_size)

    def compute(self, module: nn.Module, batch: dict[str, Any], step: int) -> StepOutput:
        waveform = batch["waveform"]
        noise, regularizer = self.arguments.posterior_noise, self.arguments.regularizer
        output = module(waveform, ramp(step, noise.warmup_steps, noise.start_step))
        reconstruction, mean, std = output["reconstruction"], output["mean"], output["std"]
        losses = {
            "stft": self.stft_loss.to(waveform.device)(reconstruction, waveform),
            "waveform": nn.functional.l1_loss(reconstruction, waveform),
            "kl": regularizer(mean, std) * ramp(step, regularizer.warmup_steps),
        }
        return StepOutput(
            losses={name: losses[name] for name in self.loss_weights},
            audio_seconds=waveform.shape[0] * waveform.shape[-1] / self.vae.config.sampling_rate,
            metrics=self._rate(mean.detach(), std.detach()),
        )

    def _rate(self, mean: torch.Tensor, std: torch.Tensor) -> dict[str, torch.Tensor]:
        """Mean KL of the first and of the last eighth of the channels, the total, and the rate."""
        per_channel = channel_kl(mean, std)
        eighth = max(1, len(per_channel) // 8)
        return {
            "kl_head": per_channel[:eighth].mean(),
            "kl_tail": per_channel[-eighth:].mean(),
            "nats_per_frame": per_channel.sum(),
            "kbit/s": rate_kbps(mean, std, self.vae.config.sampling_rate / self.vae.hop_length),
        }

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
                "waveform": nn.functional.l1_loss(output.sample, waveform),
                **self._rate(mean, std),
            }
            clips += 1
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + float(value)
        return {name: value / clips for name, value in sums.items()}

    def export(self, folder: Path) -> None:
        self.vae.save_pretrained(folder)


def load_autoencoder(arguments: AutoencoderArguments) -> AutoencoderStar:
    """A new model, or the one of `init_from`."""
    if arguments.init_from is None:
        return AutoencoderStar(**arguments.model)
    return without_path(
        AutoencoderStar.from_pretrained(resolve_export(arguments.init_from), use_safetensors=True)
    )


def main(argv: list[str] | None = None) -> None:
    run_script(AutoencoderArguments, AutoencoderTask, argv)


if __name__ == "__main__":
    main()
