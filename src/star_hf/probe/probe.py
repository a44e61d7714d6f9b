"""The probe of autoencoders: the same generators on the latents of each, judged at every budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from ..audit import Codec, CodecFolder, as_codec, common_rate, describe_run, load_codec
from ..audit.audit import Progress, silent_progress
from .clips import ProbeClips
from .codec_probe import CodecProbe
from .judge import Judge
from .kept_audio import keep_clip
from .metrics import METRICS
from .settings import ProbeSettings

REAL = "real"


def run_probe(
    codecs: Mapping[str, Codec | CodecFolder | nn.Module],
    clips: ProbeClips,
    settings: ProbeSettings,
    folder: str | Path,
    *,
    judge: Judge | None = None,
    progress: Progress = silent_progress,
) -> dict[str, Any]:
    """Probe autoencoders by name and return the document for JSON; see `probe_codec`.

    What `audit.as_codec` knows may be given, and folders that `audit.inspect_codec` has looked at: each of
    these is loaded when its turn comes, so that one model is in memory at a time.
    """
    if not codecs:
        raise ValueError("`codecs` is empty: there is no autoencoder to probe.")
    codecs = {
        name: codec if isinstance(codec, CodecFolder) else as_codec(codec) for name, codec in codecs.items()
    }
    settings = _judged_settings(settings, [codec.sampling_rate for codec in codecs.values()], judge)
    judge = judge or Judge(clips, settings, progress=progress)
    entries = {}
    for name, codec in codecs.items():
        loaded = load_codec(codec, settings.device or "cpu") if isinstance(codec, CodecFolder) else codec
        entries[name] = probe_codec(loaded, name, clips, settings, folder, judge=judge, progress=progress)
        del loaded
    return assemble_document(entries, clips, settings, judge, folder)


def probe_codec(
    codec: Codec,
    name: str,
    clips: ProbeClips,
    settings: ProbeSettings,
    folder: str | Path,
    *,
    judge: Judge | None = None,
    progress: Progress = silent_progress,
) -> dict[str, Any]:
    """Probe one autoencoder and return its entry of the document.

    Every finished run is written below `folder`/runs and read from there the next time; one that was
    interrupted starts anew. Generated clips are written below `folder`/audio. Posteriors are encoded once and
    kept in half precision, in memory up to 2 GiB and beyond that in `folder`.

    Args:
        judge: the one that all autoencoders of a comparison share; by default a new one.

    Raises:
        ValueError: `folder` has runs under this name of another autoencoder, data set or settings; latents
            that are not finite or do not vary; a loss that is not finite.
    """
    settings = _judged_settings(settings, [codec.sampling_rate], judge)
    return CodecProbe(codec, name, clips, settings, Path(folder), judge, progress).entry()


def assemble_document(
    entries: Mapping[str, dict[str, Any]],
    clips: ProbeClips,
    settings: ProbeSettings,
    judge: Judge,
    folder: str | Path,
) -> dict[str, Any]:
    """The document of all entries of one comparison, by name; keeps real clips beside the generated ones.

    Raises `ValueError` for entries that were judged at another rate than the judge's.
    """
    settings = _judged_settings(settings, [], judge)
    rate = judge.metric_rate
    for name, entry in entries.items():
        if entry["metric_rate"] != rate:
            raise ValueError(
                f"{name!r} was judged at {entry['metric_rate']} Hz, the others at {rate}: give all of them "
                "one judge, or `metric_rate` in the settings."
            )
    run = describe_run(settings)
    kept = clips.prompts(min(settings.kept_clips, len(clips.held_out)))
    audio = [
        keep_clip(Path(folder), REAL, f"{number:02d}", clips.held_out.read(clip, rate, 1), rate)
        for number, clip in enumerate(kept)
    ]
    return {
        **run,
        "settings": {
            **run["settings"],
            "dataset": clips.name,
            "training_clips": len(clips.training),
            "held_out_clips": len(clips.held_out),
            "embedder": judge.embedder_name,
        },
        "real": {**judge.describe(), "audio": audio},
        "prompts": [clips.held_out.captions[clip][0] for clip in kept],
        "bad_files": [{"name": bad.name, "reason": bad.reason} for bad in clips.bad_files],
        "autoencoders": dict(entries),
        "metrics": METRICS,
    }


def _judged_settings(settings: ProbeSettings, rates: Sequence[int], judge: Judge | None) -> ProbeSettings:
    """The settings with the rate that clips are judged at: theirs, the judge's, or the lowest of `rates`."""
    if judge is None:
        return replace(settings, metric_rate=settings.metric_rate or common_rate(rates))
    if settings.metric_rate not in (None, judge.metric_rate):
        raise ValueError(
            f"`settings.metric_rate` is {settings.metric_rate}, but `judge` judges at {judge.metric_rate} Hz."
        )
    if settings.embedder != judge.settings.embedder:
        raise ValueError(
            f"`settings.embedder` is {settings.embedder!r}, but that of `judge` {judge.settings.embedder!r}."
        )
    return replace(settings, metric_rate=judge.metric_rate)
