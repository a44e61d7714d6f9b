"""The audit of one autoencoder on a data set: one pass of encoding, then decoding of a few clips."""

from __future__ import annotations

import importlib.metadata
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ..audio import AudioError
from ..data import BadFile
from .clips import ClipReader, Piece, choose_clips
from .codec import Codec
from .decoding import NOISE_LEVELS, SHORTEST, DecoderCurves
from .probe import ClipFeatures, linear_probe
from .residuals import ChannelResiduals, channel_residuals, shown_channels
from .statistics import LatentStatistics

#: Makes a context that gives a function to call after each of so many steps: `progress(description, total)`.
Progress = Callable[[str, int], AbstractContextManager[Callable[[], object]]]
HIGHEST_METRIC_RATE = 48000  # above it, bands of the mel distance fall between two bins
PACKAGES = ("torch", "diffusers", "transformers", "datasets", "numpy", "scipy", "scikit-learn")


def silent_progress(description: str, total: int) -> AbstractContextManager[Callable[[], object]]:
    """A `Progress` that shows nothing."""
    return nullcontext(lambda: None)


@dataclass(frozen=True)
class AuditSettings:
    """What is measured on how much audio.

    Args:
        max_clips: drawn at random from the data set with `seed`; None takes all.
        max_seconds: of each clip, from its beginning; None reads them whole.
        piece_seconds: longer clips are read and encoded in pieces of at most this length, each by itself.
        decoded_clips: clips that the curves of the decoder are measured on, spread over the data set; 0
            leaves the decoder out.
        decoded_seconds: of each of these, from its beginning.
        residuals: also measure the residual mel spectrogram of each channel, on the first of these clips.
    """

    max_clips: int | None = None
    max_seconds: float | None = None
    piece_seconds: float = 30.0
    decoded_clips: int = 8
    decoded_seconds: float = 5.0
    residuals: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("max_clips", "max_seconds", "piece_seconds", "decoded_seconds"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"`{name}` must be a finite number > 0, got {value!r}.")
        if self.decoded_clips < 0:
            raise ValueError(f"`decoded_clips` must be at least 0, got {self.decoded_clips!r}.")


@dataclass(frozen=True)
class Labels:
    """Columns of the data set for the linear probe: a label for each row, and a fold where there is one."""

    labels: Sequence[Any]
    folds: Sequence[Any] | None = None


@dataclass(frozen=True)
class AuditResult:
    """`report` for JSON; `residuals` for the picture, None where they were not measured."""

    report: dict[str, Any]
    residuals: ChannelResiduals | None


@dataclass(frozen=True)
class _DecodedClip:
    name: str
    waveform: torch.Tensor


def audit_codec(
    codec: Codec,
    clips: ClipReader,
    settings: AuditSettings,
    *,
    name: str = "",
    labels: Labels | None = None,
    metric_rate: int | None = None,
    progress: Progress = silent_progress,
) -> AuditResult:
    """Measure an autoencoder on the clips of a data set.

    Args:
        metric_rate: sampling rate in Hz at which distances are measured, the codec's own by default (48000 at
            most). Autoencoders that are to be compared need a common one.

    Raises:
        AudioError: no clip can be read.
        ValueError: latents that are not finite, or too few of them.
    """
    chosen = choose_clips(len(clips.rows), settings.max_clips, settings.seed)
    if not chosen:
        raise AudioError("The data set has no clips.")
    metric_rate = metric_rate or common_rate([codec.sampling_rate])
    encoding = _Encoding(codec, clips, settings, labels, metric_rate)
    with progress(f"{name}: encoding", len(chosen)) as step:
        for number, clip in enumerate(chosen, start=1):
            encoding.add(clip, wanted=math.ceil(settings.decoded_clips * number / len(chosen)))
            step()
    if encoding.num_clips == 0:
        raise AudioError(f"No clip can be read. {_first_failures(encoding.failures)}")
    report = {
        "class": codec.class_name,
        "sampling_rate": codec.sampling_rate,
        "audio_channels": codec.audio_channels,
        "hop_length": codec.hop_length,
        "parameters": sum(weights.numel() for weights in codec.model.parameters()),
        "num_clips": encoding.num_clips,
        "seconds": encoding.seconds,
        "bad_files": [{"name": bad.name, "reason": bad.reason} for bad in encoding.failures],
        "latents": encoding.statistics.to_dict(),
        "probe": encoding.probe(),
    }
    decoder, residuals = _audit_decoder(codec, encoding, settings, metric_rate, name, progress)
    report["decoder"] = decoder
    report["residuals"] = None if residuals is None else residuals.to_dict()
    return AuditResult(report, residuals)


def common_rate(rates: Sequence[int]) -> int:
    """The rate at which autoencoders of these sampling rates are compared: the lowest, 48000 at most."""
    return min([*rates, HIGHEST_METRIC_RATE])


def describe_run(settings: AuditSettings, **facts: Any) -> dict[str, Any]:
    """What a report must say to be repeated: settings, versions, seed."""
    return {**facts, "settings": asdict(settings), "seed": settings.seed, "versions": _versions()}


class _Encoding:
    """The pass over the data set: statistics of the latents, and the clips that are kept for decoding."""

    def __init__(
        self,
        codec: Codec,
        clips: ClipReader,
        settings: AuditSettings,
        labels: Labels | None,
        metric_rate: int,
    ) -> None:
        self.codec, self.clips, self.settings, self.labels = codec, clips, settings, labels
        self.metric_rate = metric_rate
        self.statistics = LatentStatistics(codec.latent_channels, codec.frame_rate, codec.noise_std)
        self.features = ClipFeatures()
        self.kept: list[_DecodedClip] = []
        self.failures: list[BadFile] = []
        self.num_clips, self.seconds = 0, 0.0

    def add(self, clip: int, wanted: int) -> None:
        """Encode a clip; keep its beginning if fewer than `wanted` clips are kept yet."""
        codec = self.codec
        for piece in self.clips.pieces(clip, codec.sampling_rate, codec.audio_channels, codec.hop_length):
            if isinstance(piece, BadFile):
                self.failures.append(piece)
                self.features.drop(clip)
                return
            moments = codec.encode(piece.waveform[None])
            try:
                self.statistics.update(moments)
            except ValueError as error:
                raise ValueError(f"{self.clips.name(clip)}: {error}") from error
            self.seconds += piece.waveform.shape[-1] / codec.sampling_rate
            if self.labels is not None and self.labels.labels[clip] not in (None, ""):
                self.features.update(clip, moments.mean)
            if len(self.kept) < wanted and piece.start == 0:
                self._keep(piece)
        self.num_clips += 1

    def _keep(self, piece: Piece) -> None:
        rate = self.codec.sampling_rate
        waveform = piece.waveform[:, : round(self.settings.decoded_seconds * rate)]
        long_enough = waveform.shape[-1] * self.metric_rate >= (SHORTEST + 1) * rate
        if long_enough and waveform.any():
            self.kept.append(_DecodedClip(self.clips.name(piece.clip), waveform.clone()))

    def probe(self) -> dict[str, Any] | None:
        """Accuracy of the linear probe; None without labels."""
        if self.labels is None:
            return None
        rows, features = self.features.table()
        labels = [str(self.labels.labels[row]) for row in rows]
        folds = None if self.labels.folds is None else [self.labels.folds[row] for row in rows]
        return linear_probe(features, labels, folds, self.settings.seed)


def _audit_decoder(
    codec: Codec,
    encoding: _Encoding,
    settings: AuditSettings,
    metric_rate: int,
    name: str,
    progress: Progress,
) -> tuple[dict[str, Any] | None, ChannelResiduals | None]:
    if not encoding.kept:
        return None, None
    moments = encoding.statistics.moments()
    has_prior = encoding.statistics.kind == "gaussian"
    fill = torch.zeros_like(moments.mean) if has_prior else moments.mean
    fill, std = fill.float(), moments.std.float()
    curves = DecoderCurves(codec, fill, std, metric_rate, settings.seed)
    clips = [(clip, codec.encode(clip.waveform[None]).mean) for clip in encoding.kept]
    with progress(f"{name}: decoding", len(clips) * curves.decodes_per_clip) as step:
        for clip, latents in clips:
            curves.update(clip.waveform, latents, step)
    report = {
        "num_clips": len(clips),
        "clips": [clip.name for clip, _ in clips],
        "metric_rate": metric_rate,
        "replaced_by": "0, the mean of the prior" if has_prior else "the channel's mean over the data set",
        "noise_levels": list(NOISE_LEVELS),
        **curves.to_dict(),
    }
    if not settings.residuals:
        return report, None
    clip, latents = clips[0]
    with progress(f"{name}: residuals", len(shown_channels(codec.latent_channels))) as step:
        residuals = channel_residuals(
            codec, latents, fill, std, clip_name=clip.name, seed=settings.seed, step=step
        )
    return report, residuals


def _first_failures(failures: Sequence[BadFile], shown: int = 3) -> str:
    listing = "; ".join(f"{bad.name}: {bad.reason}" for bad in failures[:shown])
    return listing if len(failures) <= shown else f"{listing}; and {len(failures) - shown} more"


def _versions() -> Mapping[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
