"""Whole clips or random spans of them, with a caption each: what a text-to-audio model learns from."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from .captions import CaptionTemplates
from .channels import CHANNEL_POLICIES, ChannelPolicy
from .items import clip_info, clip_of, collate_common, read_span

# Padding to a multiple of this many samples gives whole frames of any usual hop.
PADDED_TO = 2048


class CaptionedClipReader:
    """Reads a row's clip at `sampling_rate`: `waveform` (channels, samples) float32, and its `text`.

    See `ItemReader` for what it raises.

    Args:
        captions: makes the text from the row's columns.
        max_seconds: longer clips give a random span of this length; `None` takes them whole.
        caption_dropout: share of items whose text is the empty prompt, for guidance.
        channel_policy: see `CropSettings.channels`.
    """

    def __init__(
        self,
        captions: CaptionTemplates,
        sampling_rate: int,
        channels: int,
        *,
        max_seconds: float | None = None,
        caption_dropout: float = 0.0,
        channel_policy: str = "convert",
        audio_column: str = "audio",
    ) -> None:
        if not 0.0 <= caption_dropout <= 1.0:
            raise ValueError(f"caption_dropout must be between 0 and 1, got {caption_dropout}")
        if max_seconds is not None and not max_seconds * sampling_rate >= 1:
            raise ValueError(f"max_seconds must be at least one sample, got {max_seconds}")
        if channel_policy not in CHANNEL_POLICIES:
            raise ValueError(
                f"channel_policy must be one of {', '.join(CHANNEL_POLICIES)}, got {channel_policy!r}"
            )
        self.captions = captions
        self.sampling_rate = sampling_rate
        self.channels = channels
        self.max_samples = None if max_seconds is None else int(max_seconds * sampling_rate)
        self.caption_dropout = caption_dropout
        self.channel_policy = channel_policy
        self.audio_column = audio_column
        self.columns = list(dict.fromkeys([audio_column, *captions.columns]))

    def __call__(self, row: Mapping[str, Any], random: np.random.Generator) -> dict[str, Any]:
        clip = clip_of(row[self.audio_column])
        info = clip_info(clip, self.sampling_rate)
        policy = ChannelPolicy.draw(self.channel_policy, info.channels, self.channels, random)
        wanted = info.num_frames if self.max_samples is None else min(self.max_samples, info.num_frames)
        start = int(random.integers(info.num_frames - wanted + 1))
        waveform = policy(read_span(clip, start, max(1, wanted), self.sampling_rate)).contiguous()
        text = self.captions.draw(row, random)
        return {"waveform": waveform, "text": "" if random.random() < self.caption_dropout else text}


def collate_clips(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Clips of different lengths as one batch, and their captions.

    `waveform` (batch, channels, samples) is zero after a clip's end, up to a multiple of `PADDED_TO` samples;
    `num_samples` (batch,) int64 are the clips' own; `text` is a list. See `collate_common` for the rest.
    """
    lengths = [item["waveform"].shape[-1] for item in items]
    padded = -(-max(lengths) // PADDED_TO) * PADDED_TO
    waveform = torch.stack(
        [
            torch.nn.functional.pad(item["waveform"], (0, padded - item["waveform"].shape[-1]))
            for item in items
        ]
    )
    text = [item["text"] for item in items]
    clips = {"waveform": waveform, "num_samples": torch.tensor(lengths), "text": text}
    return {**clips, **collate_common(items)}
