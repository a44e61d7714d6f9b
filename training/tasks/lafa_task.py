"""What LAFA is trained for: a frozen autoencoder's latents from what masks have left of their channels."""

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import nn

from engine.arguments import check_keywords, group, option
from engine.noise import SampleNoise
from engine.reports import Report, comparison_figure
from engine.run_setup import TrainingArguments
from engine.task import StepOutput, Task
from loaders.audio_data import AudioDataArguments, CropLoader
from star_hf.data import noise_seed
from star_hf.evaluation.reconstruction import mel_distance, stft_distance
from star_hf.flow import interpolate
from star_hf.lafa import AutoencoderLafa, lafa_loss, sample_channel_mask
from tasks.vae_loading import load_vae

LAFA = "lafa"
#: What `AutoencoderLafa.from_vae` and the statistics fill in.
FROM_VAE = (
    "inner_vae",
    "sampling_rate",
    "audio_channels",
    "hop_length",
    "inner_latent_channels",
    "inner_latents_mean",
    "inner_latents_std",
    "latents_mean",
    "latents_std",
)
MASK_STREAM = 2  # tells the seeds of the masks from those of the noise
VALIDATION_TIMES = (0.125, 0.375, 0.625, 0.875)


@dataclass
class MaskArguments:
    mask_ratio: float = option(1.0, "ρ: largest share of masked channels")
    random_length: bool = option(True, "draw the share from 0 to ρ for each crop; false: always ρ")
    max_spans: int = option(4, "m: masked channels form 1 to m spans")
    all_probability: float = option(0.1, "chance that all channels of a crop are masked")

    def check(self) -> None:
        try:
            sample_channel_mask(1, **asdict(self), generator=torch.Generator())
        except ValueError as error:
            raise ValueError(f"masking: {error}") from error

    def masks(self, channels: int, seeds: torch.Tensor) -> torch.Tensor:
        """Masked channels `(batch, channels)`, each row's from its own seed."""
        generators = [torch.Generator().manual_seed(seed) for seed in (seeds ^ MASK_STREAM).tolist()]
        return torch.stack([sample_channel_mask(channels, **asdict(self), generator=g) for g in generators])


@dataclass
class LafaArguments(TrainingArguments):
    vae: str = option("", "autoencoder to freeze: a run's folder, a model's folder, or a Hub name")
    model: dict[str, Any] = option({}, "what differs from AutoencoderLafa's default configuration")
    masking: MaskArguments = group(MaskArguments)
    data: AudioDataArguments = group(AudioDataArguments)
    statistics_crops: int = option(
        256, "crops to measure mean and std over: of the vae's latents, and of the exported ones"
    )
    report_clips: int = option(4, "held-out clips to hear and see in a report")

    def check(self) -> None:
        super().check()
        if not self.vae:
            raise ValueError("vae is missing: the autoencoder to freeze")
        check_keywords("model", self.model, AutoencoderLafa, FROM_VAE)
        self.masking.check()
        for name in ("statistics_crops", "report_clips"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


class MaskedFlow(nn.Module):
    """One forward pass for training: masked latents → h, noisy latents under h → velocity."""

    def __init__(self, lafa: AutoencoderLafa) -> None:
        super().__init__()
        self.encoder, self.decoder = lafa.encoder, lafa.decoder

    def forward(
        self,
        latents: torch.Tensor,
        channel_mask: torch.Tensor,
        noise: torch.Tensor,
        t: torch.Tensor,
        frame_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        h = self.encoder(latents, channel_mask, frame_mask)
        return self.decoder(interpolate(noise, latents, t), h, t, frame_mask)


class LafaTask(Task):
    """Latents from masked latents. The autoencoder encodes the crops as they come and is never trained.

    What is learned are the means of its posterior, normalized by their statistics over the first crops: those
    in the autoencoder's configuration may be of other data, or of quieter crops. Zeros that fill a crop after
    its clip's end are no part of the clip: their frames are neither attended to nor counted.
    """

    best_metric = "mel_distance"

    def __init__(self, arguments: LafaArguments, log: Any) -> None:
        self.arguments = arguments
        self.batch_size = arguments.data.batch_size
        vae = load_vae(arguments.vae)
        self.data = CropLoader(
            arguments.data, vae.config.sampling_rate, vae.config.audio_channels, arguments.seed, log.say
        )
        self.bad_files = self.data.bad_files
        self.lafa = AutoencoderLafa.from_vae(vae, **arguments.model)
        if arguments.gradient_checkpointing:
            self.lafa.enable_gradient_checkpointing()
        self.lafa.inner.to(PartialState().device)
        self.lafa.fit_inner_statistics(self._first_crops())
        self.reference = [self.lafa.inner.encode(waveform).cpu() for waveform in self._first_crops()]
        self.objective = self.lafa.config.decoder_objective
        self.loss_weights = {self.objective: 1.0}
        self.modules = {LAFA: MaskedFlow(self.lafa).train()}

    def _first_crops(self) -> Iterator[torch.Tensor]:
        """Waveforms that every process and every start of the run measures alike."""
        count = self.arguments.statistics_crops
        for batch in itertools.islice(self.batches(0, 0, 1), math.ceil(count / self.batch_size)):
            yield batch["waveform"][:count].to(PartialState().device)
            count -= self.batch_size

    def batches(
        self, start: int, rank: int, world_size: int, position: Any | None = None
    ) -> Iterable[dict[str, Any]]:
        return self.data.batches(start, rank, world_size, position)

    def weight(self, batch: dict[str, Any]) -> float:
        return max(1.0, float(real_frames(batch["waveform"], self.lafa.hop_length).sum()))

    def compute(self, modules: dict[str, nn.Module], batch: dict[str, Any], step: int) -> StepOutput:
        waveform = batch["waveform"]
        latents = self.lafa.inner.to(waveform.device).encode(waveform).float()
        frames = real_frames(waveform, self.lafa.hop_length)
        masks = self._masks(batch["noise_seed"]).to(waveform.device)
        noise = SampleNoise(batch["noise_seed"], waveform.device)
        t = torch.special.ndtr(noise.normal())
        velocity, start = self._velocity(modules[LAFA], latents, masks, noise, t, frames)
        seconds = waveform.shape[0] * waveform.shape[-1] / self.lafa.sampling_rate
        return StepOutput(
            {self.objective: lafa_loss(velocity, latents, start, frames)},
            seconds,
            {"masked": masks.float().mean(), "padding": 1 - frames.float().mean()},
        )

    def _masks(self, seeds: torch.Tensor) -> torch.Tensor:
        return self.arguments.masking.masks(self.lafa.config.inner_latent_channels, seeds)

    def _velocity(
        self,
        module: nn.Module,
        latents: torch.Tensor,
        masks: torch.Tensor,
        noise: SampleNoise,
        t: torch.Tensor,
        frames: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the module predicts at the times `t`, and the noise that the flow came from."""
        if self.objective == "mse":  # the same, from nothing instead of noise
            start, t = torch.zeros_like(latents), torch.zeros_like(t)
        else:
            start = noise.normal(*latents.shape[1:])
        return module(latents, masks, start, t, frames), start

    def validate(self, device: torch.device) -> dict[str, float]:
        """Means over the held-out clips: distances after encoding and decoding, and the training loss.

        Those with `vae_` are the frozen autoencoder's own, which bound what can be reached. `latent_mse`
        compares the decoded latents with the vae's, both of unit variance. The loss is taken at four times,
        with masks and noise that are always the same.
        """
        self.lafa.inner.to(device)
        sums: dict[str, float] = {}
        clips = 0
        for waveform in self.data.held_out():
            waveform = waveform.to(device)
            latents = self.lafa.inner.encode(waveform).float()
            decoded = self.lafa.decode_latents(self.lafa.encoder(latents))
            values = {
                self.objective: self._held_out_loss(latents, clips),
                "latent_mse": nn.functional.mse_loss(decoded, latents),
                **self._distances(decoded, waveform, ""),
                **self._distances(latents, waveform, "vae_"),
            }
            clips += 1
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + float(value)
        return {name: value / clips for name, value in sums.items()}

    def _distances(
        self, latents: torch.Tensor, waveform: torch.Tensor, prefix: str
    ) -> dict[str, torch.Tensor]:
        reconstruction = self.lafa.inner.decode(latents)[..., : waveform.shape[-1]].float()
        return {
            f"{prefix}stft_distance": stft_distance(reconstruction, waveform),
            f"{prefix}mel_distance": mel_distance(reconstruction, waveform, self.lafa.sampling_rate),
        }

    def _held_out_loss(self, latents: torch.Tensor, number: int) -> torch.Tensor:
        seeds = torch.tensor([noise_seed(number, index) for index in range(len(VALIDATION_TIMES))])
        latents = latents.expand(len(seeds), -1, -1)
        t = torch.tensor(VALIDATION_TIMES, device=latents.device)
        masks = self._masks(seeds).to(latents.device)
        noise = SampleNoise(seeds, latents.device)
        velocity, start = self._velocity(self.modules[LAFA], latents, masks, noise, t)
        return lafa_loss(velocity, latents, start)

    def report(self, device: torch.device) -> Report | None:
        """The first held-out clips, what the frozen autoencoder makes of them, and what LAFA does."""
        clips = list(itertools.islice(self.data.held_out(), self.arguments.report_clips))
        if not clips:
            return None
        self.lafa.inner.to(device)
        rate, pairs, audio = self.lafa.sampling_rate, [], {}
        for index, waveform in enumerate(clips):
            latents = self.lafa.inner.encode(waveform.to(device))
            decoded = self.lafa.decode_latents(self.lafa.encoder(latents))
            original = waveform[0].cpu()
            frozen, own = (
                self.lafa.inner.decode(z)[0, :, : original.shape[-1]].float().cpu()
                for z in (latents, decoded)
            )
            pairs.append((f"clip {index}", original, own))
            for name, copy in (("original", original), ("frozen_vae", frozen), ("reconstruction", own)):
                audio[f"clip_{index}_{name}"] = (copy, rate)
        return Report(audio=audio, figures={"reconstructions": comparison_figure(pairs, rate)})

    def export(self, folder: Path) -> None:
        device = next(self.lafa.encoder.parameters()).device
        self.lafa.fit_latents_statistics(latents.to(device) for latents in self.reference)
        self.lafa.save_pretrained(folder)


def real_frames(waveform: torch.Tensor, hop_length: int) -> torch.Tensor:
    """Which frames begin before the zeros at the end of a waveform, `(batch, frames)` bool.

    Args:
        waveform: `(batch, channels, samples)`.
        hop_length: samples of a frame.
    """
    samples = waveform.shape[-1]
    positions = torch.arange(1, samples + 1, device=waveform.device)
    ends = (waveform.ne(0).any(dim=1) * positions).amax(dim=1)
    starts = torch.arange(0, samples, hop_length, device=waveform.device)
    return starts < ends[:, None]
