"""Audio that a frozen autoencoder encodes while a generator is trained on it."""

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from torch import nn

from engine.noise import SampleNoise
from loaders.audio_data import AudioCaptionLoader
from loaders.generator_data import GeneratorData, LatentDataArguments, Statistics, Tokenize
from star_hf.data import LatentStatistics, frame_mask
from star_hf.generation.vae_interface import encode_moments, posterior_kind


class EncodedAudio(GeneratorData):
    """Audio that the frozen autoencoder encodes for each step, on the device of the batch.

    The latents are sampled from the posterior and normalized by the given statistics, else by those in the
    autoencoder's configuration, else by those of the first `statistics_clips` clips.
    """

    def __init__(
        self,
        arguments: LatentDataArguments,
        vae: nn.Module,
        seed: int,
        say: Callable[[str], None],
        statistics: Statistics | None = None,
    ) -> None:
        super().__init__(vae)
        self.posterior = posterior_kind(vae)
        self.loader = AudioCaptionLoader(
            arguments.audio, self.layout.sampling_rate, vae.config.audio_channels, seed, say
        )
        self.batch_size = arguments.audio.batch_size
        self.bad_files = self.loader.bad_files
        known = [vae.config.get(name) for name in ("latents_mean", "latents_std")]
        if statistics is not None:
            self.statistics = statistics
        elif all(values is not None for values in known):
            self.statistics = (list(known[0]), list(known[1]))
        else:
            self.statistics = self._measure(arguments.statistics_clips)
            say(f"the latents' mean and std are those of the first {arguments.statistics_clips} clips")

    @torch.no_grad()
    def _measure(self, count: int) -> Statistics:
        statistics = LatentStatistics(self.layout.latent_channels)
        device = PartialState().device
        # every process measures the same clips: nothing has to be sent around
        for batch in islice(self.loader.batches(0, 0, 1), math.ceil(count / self.batch_size)):
            part = batch["waveform"][:count].to(device), batch["num_samples"][:count]
            for _, mean, std in self._posteriors(*part):
                for pair in zip(mean, std, strict=True):
                    statistics.update(*pair)
            count -= self.batch_size
        return statistics.mean().tolist(), statistics.std().tolist()

    def batches(
        self, tokenize: Tokenize, start: int, rank: int, world_size: int, position: Any = None
    ) -> Iterator[dict[str, Any]]:
        return self._tokenized(self.loader.batches(start, rank, world_size, position), tokenize)

    def held_out(self, tokenize: Tokenize) -> Iterator[dict[str, Any]]:
        return self._tokenized(self.loader.held_out(), tokenize)

    def _tokenized(self, batches: Iterable[dict[str, Any]], tokenize: Tokenize) -> Iterator[dict[str, Any]]:
        for batch in batches:
            input_ids, attention_mask = tokenize(batch["text"])
            num_frames = self._num_frames(batch["num_samples"]).tolist()
            yield {
                **batch,
                "input_ids": input_ids,
                "attention_mask": attention_mask,
                "num_frames": num_frames,
            }

    @torch.no_grad()
    def latents(self, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        waveform, mask = batch["waveform"], frame_mask(self._num_frames(batch["num_samples"]))
        # another seed than the one that draws the noise of the flow
        source = SampleNoise(batch["noise_seed"] ^ 1, waveform.device)
        noise = source.normal(mask.shape[1], self.layout.latent_channels, lengths=mask.sum(dim=1))
        if self.posterior == "sigma":
            noise = noise * source.normal(1, 1)
        latents = torch.zeros_like(noise)
        center, scale = (torch.tensor(values, device=noise.device) for values in self.statistics)
        for rows, mean, std in self._posteriors(waveform, batch["num_samples"]):
            frames = mean.shape[2]
            sample = mean.mT + std.mT * noise[rows, :frames]
            latents[rows, :frames] = (sample - center) / scale
        return latents, mask

    def _posteriors(
        self, waveform: torch.Tensor, num_samples: torch.Tensor
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Rows of equal length, their posterior means and stds `(rows, channels, frames)`.

        Clips of other lengths are encoded by themselves: an autoencoder hears the silence after a clip.
        """
        self.vae.to(waveform.device)
        num_frames = self._num_frames(num_samples).to(waveform.device)
        for frames in num_frames.unique().tolist():
            rows = (num_frames == frames).nonzero()[:, 0]
            samples = frames * self.layout.hop_length
            clips = waveform[rows, :, :samples]
            clips = torch.nn.functional.pad(clips, (0, samples - clips.shape[-1]))
            moments = encode_moments(self.vae, clips)
            yield rows, moments.mean.float(), moments.std.float()

    def _num_frames(self, num_samples: torch.Tensor) -> torch.Tensor:
        return -(-num_samples // self.layout.hop_length)

    def captions(self) -> Iterable[str]:
        for source, reader in zip(self.loader.sources, self.loader.readers, strict=True):
            if isinstance(source.training, Dataset):  # a stream would have to be read to its end
                columns = reader.captions.columns
                for row in source.training.select_columns(columns) if columns else [{}]:
                    yield from reader.captions.candidates(row)

    def held_out_captions(self) -> Iterable[str]:
        for reader, row in self.loader.held_out_rows():
            yield from reader.captions.candidates(row)[:1]
