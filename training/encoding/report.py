"""What encoding tells: a plan before it, lines of progress during it."""

from typing import Any

import numpy as np
from diffusers.models.modeling_utils import ModelMixin

from encoding.arguments import EncodeArguments
from encoding.processes import Progress
from encoding.source import StreamSource, TableSource
from encoding.work import WorkFolder
from engine.run_log import clock
from star_hf.audio import AudioError, read_audio
from star_hf.data import audio_source
from star_hf.generation.vae_interface import latent_layout

SAMPLED_CLIPS = 16
BYTES_PER_VALUE = 4  # mean and std in half precision


def describe(
    arguments: EncodeArguments,
    source: TableSource | StreamSource,
    vae: ModelMixin,
    plan: dict[str, Any],
    work: WorkFolder,
) -> None:
    """Print what would be encoded, how large it would be, and how much of it is there."""
    layout = latent_layout(vae)
    parameters = sum(parameter.numel() for parameter in vae.parameters())
    rate = layout.sampling_rate / layout.hop_length
    print(
        f"vae: {plan['vae_class']}, {parameters / 1e6:.1f}M parameters, {layout.latent_channels} channels at "
        f"{rate:.2f} frames/s of {layout.sampling_rate} Hz audio; fingerprint {plan['vae_fingerprint'][:12]}…"
    )
    versions = 1 + arguments.num_shifts
    clips = "a stream of" if source.num_rows is None else source.num_rows
    print(
        f"source: {clips} clips, {versions} version(s) of each, in {source.num_units} unit(s) to share out, "
        f"{source.rows_per_shard} clips to a file; fingerprint {plan['dataset_fingerprint'][:12]}…"
    )
    seconds = _mean_seconds(arguments, source)
    if seconds is None:
        print("size: unknown, none of the first clips can be read")
    else:
        size = versions * np.ceil(seconds * rate) * layout.latent_channels * BYTES_PER_VALUE
        line = f"size: clips of {seconds:.1f} s on average, {size / 1e6:.3g} MB each"
        if source.num_rows is not None:
            hours, total = seconds * source.num_rows / 3600, size * source.num_rows / 1e9
            line += f"; {hours:.3g} h of audio, {total:.3g} GB in all"
        print(line)
    if work.plan() == plan:
        print(f"there already: {work.finished_units()} of {source.num_units} units, in {str(work.folder)!r}")
    elif work.output.exists():
        print(f"there already: {str(work.output)!r}")


def _mean_seconds(arguments: EncodeArguments, source: TableSource | StreamSource) -> float | None:
    """Of clips spread evenly over the dataset, or of a stream's first ones, as they would be cut."""
    if isinstance(source, TableSource):
        step = max(1, -(-source.num_rows // SAMPLED_CLIPS))
        rows = (source.dataset[index] for index in range(0, source.num_rows, step))
    else:
        rows = iter(source.dataset.take(SAMPLED_CLIPS))
    seconds = []
    for row in rows:
        try:
            waveform, rate = read_audio(audio_source(row[arguments.audio_column]))
        except (AudioError, OSError):
            continue
        seconds.append(min(waveform.shape[1] / rate, arguments.max_seconds or float("inf")))
    return float(np.mean(seconds)) if seconds else None


def progress_line(all_progress: list[Progress], clips_before: int, total: int | None) -> str:
    """`clips 120/320 | 8.3 clips/s | …` over all processes; `clips_before` were encoded by an earlier run."""
    clips = sum(progress.clips for progress in all_progress)
    seconds = max(max(progress.seconds for progress in all_progress), 1e-9)
    rate = clips / seconds
    audio = sum(progress.audio_seconds for progress in all_progress) / seconds
    wait = sum(p.waited for p in all_progress) / max(sum(p.seconds for p in all_progress), 1e-9)
    parts = [
        f"clips {clips_before + clips}/{'?' if total is None else total}",
        f"{rate:.2f} clips/s",
        f"{audio:.1f} s of audio/s",
        f"data wait {wait:.0%}",
    ]
    if total is not None and clips > 0:
        parts.append(f"{clock((total - clips_before - clips) / rate)} left")
    if len(all_progress) > 1:
        working = sum(progress.state == "works" for progress in all_progress)
        parts.append(f"{working} of {len(all_progress)} processes at work")
    return " | ".join(parts)
