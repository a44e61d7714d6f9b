"""Encode a dataset into latents: Parquet shards of posteriors with captions, and statistics per channel.

python training/encode_latents.py --vae runs/esc10_autoencoder_star --source recordings --output_dir latents
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset, Features, IterableDataset

from arguments import option, parse_arguments
from checkpoints import atomic_folder
from run_log import fail, quiet_libraries
from star_hf.audio import AudioError, read_audio
from star_hf.data import (
    BadFile,
    BadFiles,
    LatentInfo,
    LatentStatistics,
    LatentWriter,
    TooManyBadFiles,
    audio_name,
    audio_source,
    load_audio_dataset,
    vae_fingerprint,
)
from star_hf.generation.vae_interface import latent_layout
from vae_loading import load_vae, resolve_export

SHIFTS = ("circular", "delay")
SEAM_IN_S = 0.005


@dataclass
class EncodeArguments:
    vae: str = option("", "autoencoder: a run's folder, a from_pretrained folder or a Hub name")
    source: str = option("", "folder of audio files or Parquet, or the name of a Hub dataset")
    output_dir: str = option("", "folder to write; it appears when all is encoded")
    overwrite: bool = option(False, "replace output_dir if it exists")
    split: str = option("train", "split of the dataset")
    config_name: str | None = option(None, "configuration of a Hub dataset")
    streaming: bool = option(False, "read a Hub dataset without downloading it first")
    audio_column: str = option("audio", "column with the audio")
    text_column: str = option("text", "column with the caption, or a list of captions")
    keep_columns: list[str] = option([], "further columns to copy to the latents, such as a label")
    max_seconds: float | None = option(None, "longer clips give a random span of this length")
    num_shifts: int = option(0, "further versions of each clip, shifted in time, with other latents")
    shift: str = option(
        "circular", "circular: the end moves to the front; delay: silence in front, the end cut"
    )
    max_shift_seconds: float | None = option(
        None, "longest shift; default: the whole clip (circular), 0.5 s (delay)"
    )
    gain_db: float = option(0.0, "random gain of the further versions, ± dB")
    rows_per_shard: int = option(2000, "rows of a Parquet file")
    max_bad_share: float = option(0.05, "stop when more than this share of the files cannot be read")
    write_statistics_to_vae: bool = option(False, "store the statistics in the autoencoder's config.json")
    threads: int | None = option(None, "PyTorch's threads")
    seed: int = option(0, "of shifts and gains")

    def check(self) -> None:
        for name in ("vae", "source", "output_dir"):
            if not getattr(self, name):
                raise ValueError(f"{name} is missing")
        if self.shift not in SHIFTS:
            raise ValueError(f"shift must be one of {', '.join(SHIFTS)}, got {self.shift!r}")
        for name in ("num_shifts", "gain_db"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        for name in ("max_seconds", "max_shift_seconds", "threads"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be greater than 0, got {value}")
        if Path(self.output_dir).exists() and not self.overwrite:
            raise ValueError(f"output_dir {self.output_dir!r} exists; --overwrite true replaces it")


class Encoder:
    """Clips to posteriors, with the time-shifted versions that were asked for."""

    def __init__(self, arguments: EncodeArguments, vae: torch.nn.Module, device: torch.device) -> None:
        self.arguments, self.vae, self.device = arguments, vae.to(device), device
        self.layout = latent_layout(vae)
        self.channels = vae.config.audio_channels

    @torch.no_grad()
    def posteriors(self, source: str | bytes, index: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Mean and std `(latent_channels, frames)` of the clip, then of each further version."""
        random = np.random.default_rng([self.arguments.seed, index])
        waveform, _ = read_audio(source, sampling_rate=self.layout.sampling_rate, channels=self.channels)
        for version in range(1 + self.arguments.num_shifts):
            clip = self._span(waveform, random)
            if version > 0:
                clip = self._vary(clip, random)
            # the VAEs of diffusers drop an incomplete last frame
            clip = torch.nn.functional.pad(clip, (0, -clip.shape[-1] % self.layout.hop_length))
            posterior = self.vae.encode(clip[None].to(self.device)).latent_dist
            mean, std = posterior.mean[0].float(), posterior.std[0].float()
            if not bool(torch.isfinite(mean).all() and torch.isfinite(std).all()):
                raise ValueError("the autoencoder gives latents that are not finite")
            yield mean, std

    def _span(self, waveform: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
        if self.arguments.max_seconds is None:
            return waveform
        wanted = self.layout.num_samples(self.arguments.max_seconds)
        start = int(random.integers(max(0, waveform.shape[-1] - wanted) + 1))
        return waveform[:, start : start + wanted]

    def _vary(self, clip: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
        samples, rate = clip.shape[-1], self.layout.sampling_rate
        longest = self.arguments.max_shift_seconds
        if self.arguments.shift == "circular":
            limit = samples if longest is None else min(samples, round(longest * rate))
            clip = shift_circularly(clip, int(random.integers(limit)), round(SEAM_IN_S * rate))
        else:
            offset = int(random.integers(min(samples, round((longest or 0.5) * rate))))
            clip = torch.nn.functional.pad(clip, (offset, 0))[:, :samples]
        gain = 10.0 ** (random.uniform(-self.arguments.gain_db, self.arguments.gain_db) / 20.0)
        # a gain must not clip what was not clipped before
        return clip * min(gain, max(1.0, 1.0 / max(float(clip.abs().max()), 1e-9)))


def shift_circularly(clip: torch.Tensor, offset: int, seam: int) -> torch.Tensor:
    """Move the last `offset` samples to the front; where end and beginning meet, fade over `seam` samples."""
    samples = clip.shape[-1]
    seam = min(seam, offset, samples - offset)
    shifted = clip.roll(offset, dims=-1)
    if seam > 0:
        fade = torch.sin(torch.linspace(0, torch.pi / 2, seam + 1)[1:]).square()
        shifted[:, offset - seam : offset] *= fade.flip(0)
        shifted[:, offset : offset + seam] *= fade
    return shifted


def encode(arguments: EncodeArguments) -> LatentInfo:
    """Write the latent dataset to `output_dir`, complete or not at all."""
    arguments.check()
    quiet_libraries()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    dataset = load_audio_dataset(
        arguments.source,
        arguments.split,
        audio_column=arguments.audio_column,
        text_column=arguments.text_column,
        config_name=arguments.config_name,
        streaming=arguments.streaming,
    )
    columns = column_features(dataset, arguments)
    total = len(dataset) if isinstance(dataset, Dataset) else None
    vae = load_vae(arguments.vae)
    encoder = Encoder(arguments, vae, Accelerator().device)
    bad_files = BadFiles(total, arguments.max_bad_share)
    statistics = LatentStatistics(encoder.layout.latent_channels)
    output = Path(arguments.output_dir)
    with atomic_folder(output) as folder:
        writer = LatentWriter(folder, columns, arguments.rows_per_shard)
        for index, row in enumerate(dataset):
            value = row[arguments.audio_column]
            kept = {name: row[name] for name in arguments.keep_columns}
            try:
                for version, (mean, std) in enumerate(encoder.posteriors(audio_source(value), index)):
                    writer.add(mean, std, version, {"text": row[arguments.text_column], **kept})
                    statistics.update(mean, std)
                bad_files.add([], seen=1)
            except (AudioError, OSError) as error:
                bad_files.add([BadFile.from_error(audio_name(value, index), error)], seen=1)
            if (index + 1) % 50 == 0:
                print(f"{index + 1}/{total or '?'} clips, {writer.num_rows} rows", flush=True)
        writer.close()
        if not writer.num_rows:
            raise ValueError(f"source {arguments.source!r} gave no clip to encode")
        info = LatentInfo(
            latent_channels=encoder.layout.latent_channels,
            frame_rate=encoder.layout.sampling_rate / encoder.layout.hop_length,
            sampling_rate=encoder.layout.sampling_rate,
            hop_length=encoder.layout.hop_length,
            latents_mean=statistics.mean().tolist(),
            latents_std=statistics.std().tolist(),
            num_rows=writer.num_rows,
            num_frames=statistics.num_frames,
            vae_class=type(vae).__name__,
            vae_fingerprint=vae_fingerprint(vae),
            source=Path(arguments.source).name if Path(arguments.source).exists() else arguments.source,
        )
        info.save(folder)
    print(f"{info.num_rows} rows, {info.num_frames} frames in {output}", flush=True)
    if arguments.write_statistics_to_vae:
        write_statistics(Path(resolve_export(arguments.vae)), info)
    return info


def column_features(dataset: Dataset | IterableDataset, arguments: EncodeArguments) -> Features | None:
    """Types of the columns to copy, where the source knows them; `ValueError` for a missing one."""
    if dataset.features is None:
        return None
    names = [arguments.text_column, *arguments.keep_columns]
    for name in names:
        if name not in dataset.features:
            raise ValueError(f"column {name!r} is not in the dataset; it has {', '.join(dataset.features)}")
    features = {name: dataset.features[name] for name in names}
    return Features({"text": features.pop(arguments.text_column), **features})


def write_statistics(folder: Path, info: LatentInfo) -> None:
    """Add `latents_mean` and `latents_std` to the config.json of an AutoencoderStar."""
    path = folder / "config.json"
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if "latents_mean" not in config:
        raise ValueError(
            f"write_statistics_to_vae needs a local folder of an AutoencoderStar, got {str(folder)!r}"
        )
    config.update(latents_mean=info.latents_mean, latents_std=info.latents_std)
    temporary = path.with_name(".config.json.incomplete")
    temporary.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)
    print(f"statistics written to {path}", flush=True)


def main(argv: list[str] | None = None) -> None:
    try:
        encode(parse_arguments(EncodeArguments, argv))
    except (ValueError, TooManyBadFiles) as error:
        fail(str(error))


if __name__ == "__main__":
    main()
