"""Frozen audio encoders of transformers, whose features latents are aligned with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, ClapAudioModel, PreTrainedModel

from .frozen_models import load_frozen
from .resampling import resample_batch

# Kaldi's filter bank, which AST and Wav2Vec2-BERT see: windows of 25 ms each 10 ms, at their 16 kHz.
_FBANK_WINDOW, _FBANK_HOP = 400, 160


@dataclass(frozen=True)
class _FrameGrid:
    """Where an encoder's frames are, in samples: frame k at `offset + k · stride`.

    `longest`: what the encoder takes at once; `shortest`: what it needs for one frame.
    """

    stride: float
    offset: float
    longest: int | None = None
    shortest: int = 1


class SemanticTeacher:
    """Features `(batch, frames, hidden_size)` of a frozen audio encoder: `teacher(waveform, sampling_rate)`.

    It is no module: assigned to one, it is no part of its state and its parameters. Made by
    `from_pretrained`.

    Attributes:
        sampling_rate: the encoder's, in Hz.
        hidden_size: width of the features.
        layer: hidden layer that is read; -1 is the encoder's output.
    """

    def __init__(self, encoder: PreTrainedModel, feature_extractor: Any, layer: int = -1) -> None:
        self.encoder = encoder.requires_grad_(False).eval()
        self.feature_extractor = feature_extractor
        self.sampling_rate: int = feature_extractor.sampling_rate
        self.layer = layer
        config = encoder.config
        layers = len(config.depths) if _is_clap(config) else config.num_hidden_layers
        if not -1 <= layer <= layers:
            raise ValueError(f"`layer` must be from 0 (the embeddings) to {layers}, or -1, not {layer}.")
        self.hidden_size: int = config.hidden_size
        if _is_clap(config):
            self.hidden_size = config.patch_embeds_hidden_size * _clap_merging(config, layer)
        self._grid = _frame_grid(config, feature_extractor, layer)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str,
        layer: int = -1,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        revision: str | None = None,
    ) -> SemanticTeacher:
        """Load an encoder from a folder or the Hub, safetensors only.

        Understood are waveform encoders with a convolutional front (wav2vec 2.0, HuBERT, WavLM, data2vec,
        SEW, UniSpeech), Wav2Vec2-BERT, AST, CLAP (its audio tower) and Whisper (its encoder).

        Args:
            layer: index into the hidden states, 0 being the embeddings; -1 is the encoder's output.
            dtype: of the encoder's weights, float32 by default; features are float32 in any case.

        Raises:
            ValueError: if the model is none of these, has no such layer, or lacks weights.
            OSError: if there is no such model, or it has no safetensors.
        """
        config = AutoConfig.from_pretrained(name_or_path, revision=revision)
        if not _is_understood(config):
            raise ValueError(
                f"`name_or_path` {name_or_path!r} is of type {config.model_type!r}, no audio encoder known "
                "here: use one like wav2vec2, HuBERT or WavLM, or wav2vec2-bert, AST, CLAP or Whisper."
            )
        loader = ClapAudioModel if config.model_type == "clap_audio_model" else AutoModel
        towers = {"clap": lambda model: model.audio_model, "whisper": lambda model: model.get_encoder()}
        tower = towers.get(config.model_type, lambda model: model)
        encoder = load_frozen(loader, name_or_path, dtype, revision, tower)
        feature_extractor = AutoFeatureExtractor.from_pretrained(name_or_path, revision=revision)
        teacher = cls(encoder, feature_extractor, layer)
        return teacher if device is None else teacher.to(device)

    def to(self, device: torch.device | str) -> SemanticTeacher:
        """Move the encoder; returns the teacher."""
        self.encoder.to(device)
        return self

    @torch.no_grad()
    def __call__(self, waveform: torch.Tensor, sampling_rate: int, frames: int | None = None) -> torch.Tensor:
        """Features `(batch, frames, hidden_size)` of `(batch, channels, samples)`, without gradient.

        In float32, on the encoder's device.

        The channels are averaged and resampled to the encoder's rate. The frames divide the clip evenly:
        frame f is centred at (f + ½)/frames of it, where the encoder's own are interpolated linearly. What an
        encoder adds to fill its window up is left out, clips longer than its window are given in equal parts,
        patches at several frequencies (AST, CLAP) are averaged.

        Args:
            sampling_rate: of `waveform`, in Hz.
            frames: how many; by default about as many as the encoder has.

        Raises:
            ValueError: if `waveform` has another shape or is shorter than one of the encoder's frames, or an
                argument is out of range.
        """
        if waveform.ndim != 3 or waveform.numel() == 0:
            raise ValueError(f"`waveform` must be (batch, channels, samples), not {tuple(waveform.shape)}.")
        if frames is not None and frames < 1:
            raise ValueError(f"`frames` must be at least 1, not {frames}.")
        mono = resample_batch(waveform.float().mean(dim=1), sampling_rate, self.sampling_rate)
        samples, grid = mono.shape[-1], self._grid
        if samples < grid.shortest:
            raise ValueError(
                f"`waveform` must have at least {grid.shortest} samples at the teacher's "
                f"{self.sampling_rate} Hz, not {samples}."
            )
        parts = -(-samples // grid.longest) if grid.longest else 1
        features, positions, start = [], [], 0
        for part in mono.tensor_split(parts, dim=-1):
            own = self._encode(part)
            centres = grid.offset + grid.stride * torch.arange(own.shape[1])
            real = max(1, int((centres < part.shape[-1]).sum()))
            features.append(own[:, :real])
            positions.append(start + centres[:real])
            start += part.shape[-1]
        frames = frames or max(1, round(samples / grid.stride))
        wanted = (torch.arange(frames) + 0.5) * samples / frames
        return _interpolate(torch.cat(features, dim=1), torch.cat(positions), wanted)

    def _encode(self, mono: torch.Tensor) -> torch.Tensor:
        """`(batch, samples)` of at most the window → `(batch, the encoder's frames, hidden_size)` float32."""
        clips = list(mono.cpu().numpy())
        inputs = self.feature_extractor(clips, sampling_rate=self.sampling_rate, return_tensors="pt")
        if "is_longer" in inputs:
            # CLAP's extractor marks a random clip of the batch as longer when none is.
            inputs["is_longer"] = torch.zeros(len(clips), 1, dtype=torch.bool)
        encoder = self.encoder
        inputs = {
            name: value.to(encoder.device, encoder.dtype if value.is_floating_point() else value.dtype)
            for name, value in inputs.items()
        }
        with torch.autocast(encoder.device.type, enabled=False):
            output = encoder(**inputs, output_hidden_states=self.layer != -1)
        hidden = output.last_hidden_state if self.layer == -1 else output.hidden_states[self.layer]
        return self._without_patches(hidden.float(), from_output=self.layer == -1)

    def _without_patches(self, hidden: torch.Tensor, from_output: bool) -> torch.Tensor:
        config = self.encoder.config
        if _is_clap(config):
            if not from_output:
                # An image of Swin's: several stretches of time below each other. Its output has them in line.
                chunks = config.spec_size // config.num_mel_bins
                hidden = hidden.unflatten(2, (chunks, -1)).transpose(2, 3).flatten(3)
            return hidden.mean(dim=2).transpose(1, 2)
        if _is_ast(config):
            bands = (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1
            special = 2  # class and distillation tokens
            return hidden[:, special:].unflatten(1, (bands, -1)).mean(dim=1)
        return hidden


def _interpolate(features: torch.Tensor, positions: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """`(batch, K, D)` at ascending `positions` (K,) → at `wanted` (F,); constant beyond the ends."""
    if len(positions) == 1:
        return features.expand(-1, len(wanted), -1)
    right = torch.searchsorted(positions, wanted).clamp(1, len(positions) - 1)
    left = right - 1
    weight = ((wanted - positions[left]) / (positions[right] - positions[left])).clamp(0, 1)
    left, right, weight = (values.to(features.device) for values in (left, right, weight))
    return torch.lerp(features[:, left], features[:, right], weight[:, None])


def _is_clap(config: Any) -> bool:
    return config.model_type in ("clap", "clap_audio_model")


def _is_ast(config: Any) -> bool:
    return config.model_type == "audio-spectrogram-transformer"


def _is_understood(config: Any) -> bool:
    others = config.model_type in ("whisper", "wav2vec2-bert")
    return _is_clap(config) or _is_ast(config) or others or hasattr(config, "conv_stride")


def _clap_merging(config: Any, layer: int) -> int:
    """How many patches have become one, in each direction, when `layer` is reached: two after each stage."""
    stages = len(config.depths) - 1
    return 2 ** (stages if layer == -1 else min(layer, stages))


def _frame_grid(config: Any, feature_extractor: Any, layer: int) -> _FrameGrid:
    if _is_clap(config):
        longest = int(feature_extractor.nb_max_samples)
        chunks = config.spec_size // config.num_mel_bins
        frames = chunks * (config.spec_size // config.patch_stride[1] // _clap_merging(config, layer))
        return _FrameGrid(longest / frames, longest / frames / 2, longest)
    if _is_ast(config):
        stride = config.time_stride * _FBANK_HOP
        offset = _FBANK_WINDOW / 2 + _FBANK_HOP * (config.patch_size - 1) / 2
        return _FrameGrid(stride, offset, config.max_length * _FBANK_HOP, _FBANK_WINDOW)
    if config.model_type == "whisper":
        return _FrameGrid(2 * feature_extractor.hop_length, 0.0, feature_extractor.n_samples)
    if config.model_type == "wav2vec2-bert":
        stride = feature_extractor.stride
        offset = _FBANK_WINDOW / 2 + _FBANK_HOP * (stride - 1) / 2
        return _FrameGrid(stride * _FBANK_HOP, offset, shortest=_FBANK_WINDOW)
    stride, field = 1, 1
    for kernel, step in zip(config.conv_kernel, config.conv_stride, strict=True):
        field += (kernel - 1) * stride
        stride *= step
    return _FrameGrid(stride, field / 2, shortest=field)
