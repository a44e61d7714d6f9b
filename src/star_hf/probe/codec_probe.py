"""The probe of one autoencoder: encode, reconstruct, then train, generate and judge for each generator."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from ..audit import Codec
from ..audit.audit import Progress
from .clips import ProbeClips
from .judge import Judge
from .kept_audio import keep_clip
from .latents import EncodedClips, encode_clips, temporary_folder
from .networks import Captions, make_network, num_parameters
from .records import Records
from .sampling import generate
from .settings import ProbeSettings
from .trainer import TrainedNetwork, train, validate

FACTS = "autoencoder"
RECONSTRUCTION = "reconstruction"


class CodecProbe:
    """Everything that `probe_codec` does; parts that are finished on disk are not done again."""

    def __init__(
        self,
        codec: Codec,
        name: str,
        clips: ProbeClips,
        settings: ProbeSettings,
        folder: Path,
        judge: Judge | None,
        progress: Progress,
    ) -> None:
        self.codec, self.name, self.clips, self.settings = codec, name, clips, settings
        self.folder, self.judge, self.progress = folder, judge, progress
        self.device = torch.device(settings.device) if settings.device else codec.device
        self.records = Records.of(folder, name, codec, clips, settings)

    def entry(self) -> dict[str, Any]:
        settings = self.settings
        facts = self.records.load(FACTS)
        runs = {
            (generator, seed): self.records.load(f"{generator}-seed{seed}")
            for generator in settings.generators
            for seed in settings.seeds
        }
        if facts is None or None in runs.values():
            self.judge = self.judge or Judge(self.clips, settings, progress=self.progress)
            with temporary_folder(self.folder) as folder:
                encoded, seconds = self._encode(Path(folder))
                if facts is None:
                    facts = self.records.save(FACTS, self._facts(encoded, seconds))
                captions = Captions(self.clips, settings.vocab_size)
                for (generator, seed), result in runs.items():
                    if result is None:
                        result = self._run(encoded, captions, generator, seed)
                        runs[generator, seed] = self.records.save(f"{generator}-seed{seed}", result)
        entry = {key: value for key, value in facts.items() if key != RECONSTRUCTION}
        entry["generators"] = {
            generator: {
                "generator_parameters": runs[generator, settings.seeds[0]]["generator_parameters"],
                RECONSTRUCTION: facts[RECONSTRUCTION],
                "runs": [run for seed in settings.seeds for run in runs[generator, seed]["runs"]],
            }
            for generator in settings.generators
        }
        return entry

    def _encode(self, folder: Path) -> tuple[EncodedClips, float]:
        started = time.perf_counter()
        number = len(self.clips.training) + len(self.clips.held_out)
        with self.progress(f"{self.name}: encoding", number) as step:
            encoded = encode_clips(self.codec, self.clips, folder, step)
        return encoded, time.perf_counter() - started

    def _facts(self, encoded: EncodedClips, seconds: float) -> dict[str, Any]:
        """What is true of the autoencoder whatever generator follows it."""
        codec = self.codec
        held_out = list(range(len(self.clips.held_out)))
        kept = self.clips.prompts(min(self.settings.kept_clips, len(held_out)))
        audio: dict[int, str] = {}

        def waveforms() -> Iterator[torch.Tensor]:
            for clip in held_out:
                waveform = self._decode(encoded.posterior_mean(encoded.num_training + clip), encoded, clip)
                if clip in kept:
                    number = kept.index(clip)
                    audio[number] = self._keep(f"{RECONSTRUCTION} {number:02d}", waveform)
                step()
                yield waveform

        with self.progress(f"{self.name}: reconstructing", len(held_out)) as step:
            scores = self.judge.score(waveforms(), codec.sampling_rate, held_out).to_dict()
        return {
            "class_name": codec.class_name,
            "latent_channels": codec.latent_channels,
            "constant_channels": codec.latent_channels - encoded.channels,
            "frame_rate": codec.frame_rate,
            "sampling_rate": codec.sampling_rate,
            "parameters": sum(weights.numel() for weights in codec.model.parameters()),
            "posterior": encoded.kind,
            "metric_rate": self.settings.metric_rate,
            "encoding_seconds": seconds,
            RECONSTRUCTION: {**scores, "audio": [audio[number] for number in sorted(audio)]},
        }

    def _run(self, encoded: EncodedClips, captions: Captions, generator: str, seed: int) -> dict[str, Any]:
        """Train one generator from one seed, and judge it at every budget."""
        settings = self.settings
        network = make_network(
            generator,
            encoded.channels,
            len(captions.tokenizer),
            settings,
            max(encoded.num_frames),
            encoded.frame_rate,
            seed,
        )
        runs = []
        batches = -(-settings.num_generated // settings.batch_size)
        steps = settings.budgets[-1] + len(settings.budgets) * (batches + settings.num_generated)
        with self.progress(f"{self.name}: {generator}, seed {seed}", steps) as step:
            trained: Iterator[TrainedNetwork] = train(
                network, encoded, self.clips, captions, settings, seed, self.device, step
            )
            for stage in trained:
                runs.append(self._judge(stage, encoded, captions, generator, seed, step))
        return {"generator_parameters": num_parameters(network), "runs": runs}

    def _judge(
        self,
        trained: TrainedNetwork,
        encoded: EncodedClips,
        captions: Captions,
        generator: str,
        seed: int,
        step: Callable[[], object],
    ) -> dict[str, Any]:
        settings = self.settings
        shared = (trained.network, encoded, self.clips, captions, settings)
        flow = validate(*shared, self.device)
        started = time.perf_counter()
        latents = generate(*shared, seed, self.device, step)
        seconds = time.perf_counter() - started
        prompts = self.clips.prompts(settings.num_generated)
        audio: list[str] = []

        def waveforms() -> Iterator[torch.Tensor]:
            for number, (clip, generated) in enumerate(zip(prompts, latents, strict=True)):
                waveform = self._decode(encoded.for_decoder(generated), encoded, clip)
                if number < settings.kept_clips and trained.budget == settings.budgets[-1]:
                    caption = self.clips.held_out.captions[clip][0]
                    audio.append(self._keep(f"{generator} seed {seed} {number:02d} {caption}", waveform))
                step()
                yield waveform

        scores = self.judge.score(waveforms(), self.codec.sampling_rate, prompts)
        return {
            "seed": seed,
            "budget": trained.budget,
            **flow.to_dict(),
            **scores.to_dict(),
            "training_seconds": trained.seconds,
            "sampling_seconds": seconds,
            "audio": audio,
        }

    def _decode(self, latents: torch.Tensor, encoded: EncodedClips, held_out: int) -> torch.Tensor:
        """The waveform `(channels, samples)`, as long as the held-out clip."""
        samples = encoded.num_samples[encoded.num_training + held_out]
        return self.codec.decode(latents)[0, :, :samples]

    def _keep(self, title: str, waveform: torch.Tensor) -> str:
        return keep_clip(self.folder, self.name, title, waveform, self.codec.sampling_rate)
