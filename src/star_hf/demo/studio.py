"""What the demo does, without its page: one model, one job at a time, everything bounded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..audio import AudioError, read_audio
from ..audit import LatentStatistics, as_codec, common_rate
from ..audit.decoding import keep_channels
from ..evaluation import PairScores, measure_pair, prepare_pair
from ..evaluation.plots import spectrogram_power
from ..generation.vae_interface import LatentMoments
from .background import Emit, in_background
from .files import AudioFiles, ClipFolder
from .limits import MEGABYTE, GenerationRequest, Limits, check_upload, checked_request

MAX_NAME = 40  # characters of a file's name that are shown
METRICS = ("stft_distance", "mel_distance", "si_sdr", "loudness_difference")


@dataclass(frozen=True)
class Step:
    """The sampler has done `number` of `total` steps of variation `variation` of `variations`."""

    number: int
    total: int
    variation: int = 1
    variations: int = 1


@dataclass(frozen=True)
class Clip:
    """A waveform `(channels, samples)`, and its files; `seed` where it was generated."""

    name: str
    waveform: torch.Tensor
    sampling_rate: int
    files: AudioFiles
    seed: int | None = None

    @property
    def seconds(self) -> float:
        return self.waveform.shape[-1] / self.sampling_rate


@dataclass(frozen=True)
class Reconstruction:
    """A clip before and after the autoencoder, at its rate and channels; `rate_kbps` only of a Gaussian."""

    original: Clip
    decoded: Clip
    scores: PairScores
    rate_kbps: float | None


@dataclass(frozen=True)
class ChannelProfile:
    """What each latent channel carries on one clip.

    `kind` is "KL" or "capacity", with `values` in nats per frame and a `rate_kbps`, or "variance" for latents
    that have neither.
    """

    kind: str
    values: tuple[float, ...]
    rate_kbps: float | None


@dataclass(frozen=True)
class LatentClip:
    """An encoded clip: `latents` `(1, channels, frames)`, and `fill` `(channels,)` for channels left out.

    `loudest` is the largest mel power of the original, for spectrograms of its parts.
    """

    name: str
    latents: torch.Tensor
    fill: torch.Tensor
    num_samples: int
    profile: ChannelProfile
    loudest: torch.Tensor


class Studio:
    """Generates, reconstructs, and decodes parts of latents, with one model and one job at a time.

    Args:
        autoencoder: an audio VAE of this package or of diffusers.
        pipeline: the text-to-audio pipeline that the autoencoder belongs to, or None.
        folder: for the files; it must exist, and whoever made it deletes it.
        name: of the model, for people; by default its class.
    """

    def __init__(
        self,
        autoencoder: Any,
        pipeline: Any = None,
        *,
        folder: str | Path,
        limits: Limits | None = None,
        name: str = "",
    ) -> None:
        self.limits = limits or Limits()
        self.name = name or type(autoencoder).__name__
        self.codec = as_codec(autoencoder)
        self.pipeline = pipeline
        if pipeline is not None:
            pipeline.set_progress_bar_config(disable=True)
        self._files = ClipFolder(Path(folder), int(self.limits.max_stored_megabytes * MEGABYTE))
        self._lock = threading.Lock()

    @property
    def longest_generation(self) -> float:
        """Longest clip in seconds that can be generated; 0 without a pipeline."""
        if self.pipeline is None:
            return 0.0
        return min(self.limits.max_seconds, self.pipeline.model.config.max_audio_length_in_s)

    @property
    def default_seconds(self) -> float:
        return min(self.longest_generation, self.pipeline.model.config.default_audio_length_in_s)

    def generate(self, request: GenerationRequest) -> Iterator[Step | Clip]:
        """Yield each step of the sampler, and each variation's clip as soon as it is there.

        Closing the iterator stops the sampler after the step under way. Raises `ValueError` for a request
        that is out of bounds, before anything runs.
        """
        if self.pipeline is None:
            raise ValueError(f"{self.name} is an autoencoder: it generates nothing from text.")
        request = checked_request(request, self.limits, self.longest_generation)

        def work(emit: Emit) -> None:
            with self._lock:
                for index, seed in enumerate(request.seeds()):
                    emit(self._sample(request, index, seed, emit))

        return in_background(work)

    def _sample(self, request: GenerationRequest, index: int, seed: int, emit: Emit) -> Clip:
        steps = request.steps
        emit(Step(0, steps, index + 1, request.variations))

        def after_step(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            if tensors["latents"].is_cuda:  # kernels run behind the host: the step is not yet done
                torch.cuda.synchronize()
            emit(Step(step + 1, steps, index + 1, request.variations))
            return tensors

        # One at a time: memory does not grow with the variations, and the first is heard while others run.
        waveform = self.pipeline(
            prompt=request.prompt,
            negative_prompt=request.negative_prompt or None,
            audio_length_in_s=request.seconds,
            num_inference_steps=steps,
            guidance_scale=request.guidance,
            generator=torch.Generator("cpu").manual_seed(seed),
            callback_on_step_end=after_step,
        ).audios[0]
        return self._store(f"{request.prompt} {seed}", waveform.float().cpu(), seed)

    def reconstruct(self, path: str | Path | None) -> Reconstruction:
        """Encode a file and decode the mean of its posterior.

        Raises `AudioError` for a file that is missing, too large, too long, too short or no audio.
        """
        name, waveform = self._read(path)
        with self._lock:
            moments = self.codec.encode(waveform[None])
            decoded = self.codec.decode(moments.mean)[0]
        samples = min(decoded.shape[-1], waveform.shape[-1])
        waveform, decoded = waveform[:, :samples], decoded[:, :samples]
        rate = self.codec.sampling_rate
        pair = prepare_pair(decoded, waveform, rate, rate, resample=common_rate([rate]))
        return Reconstruction(
            self._store(f"{name}, original", waveform),
            self._store(f"{name}, reconstruction", decoded),
            measure_pair(pair, METRICS),
            self._profile(moments).rate_kbps if moments.kind == "gaussian" else None,
        )

    def latents(self, path: str | Path | None) -> LatentClip:
        """Encode a file, to be decoded by parts. Raises as `reconstruct` does."""
        name, waveform = self._read(path)
        with self._lock:
            moments = self.codec.encode(waveform[None])
        has_prior = moments.kind == "gaussian"
        mean = moments.mean[0].mean(dim=-1)
        return LatentClip(
            name,
            moments.mean,
            torch.zeros_like(mean) if has_prior else mean,
            waveform.shape[-1],
            self._profile(moments),
            spectrogram_power(waveform, self.codec.sampling_rate).max(),
        )

    def decode_first_channels(self, clip: LatentClip, count: int) -> Clip:
        """Decode with the first `count` channels alone.

        The others are set to the prior's mean, 0, or without a prior to their mean over the clip. Raises
        `ValueError` for a count that is not between 1 and the number of channels.
        """
        channels = clip.latents.shape[1]
        if count != int(count) or not 1 <= count <= channels:
            raise ValueError(f"Channels must be a whole number between 1 and {channels}, not {count:g}.")
        with self._lock:
            decoded = self.codec.decode(keep_channels(clip.latents, int(count), clip.fill))[0]
        return self._store(
            f"{clip.name}, {int(count)} of {channels} channels", decoded[:, : clip.num_samples]
        )

    def _read(self, path: str | Path | None) -> tuple[str, torch.Tensor]:
        """Name and waveform `(channels, samples)` of an upload, as the autoencoder takes it."""
        if path is None:
            raise AudioError("There is no clip yet: upload or record one first.")
        path, codec = Path(path), self.codec
        try:
            check_upload(path, self.limits, codec.audio_channels)
            waveform, rate = read_audio(path, codec.sampling_rate, codec.audio_channels)
        except AudioError as error:
            # The visitor knows the file's name, and nothing of the folder that it came to lie in.
            raise AudioError(str(error).replace(str(path), path.name)) from error
        # Two frames of latents; the statistics look at neighbours.
        if waveform.shape[-1] <= codec.hop_length:
            raise AudioError(
                f"{path.name} is {waveform.shape[-1] / rate:.3f} s long; more than "
                f"{codec.hop_length / rate:.3f} s are needed."
            )
        return path.stem[:MAX_NAME], waveform

    def _profile(self, moments: LatentMoments) -> ChannelProfile:
        codec = self.codec
        statistics = LatentStatistics(codec.latent_channels, codec.frame_rate, codec.noise_std)
        profile = statistics.update(moments).to_dict()["profile"]
        return ChannelProfile(profile["kind"], tuple(profile["values"]), profile["rate_kbps"])

    def _store(self, name: str, waveform: torch.Tensor, seed: int | None = None) -> Clip:
        rate = self.codec.sampling_rate
        return Clip(name, waveform, rate, self._files.write(name, waveform, rate), seed)
