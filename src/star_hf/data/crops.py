"""Random crops of audio clips: only the crop is read, and every choice follows from the random generator."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from .captions import CaptionTemplates
from .channels import CHANNEL_POLICIES, ChannelPolicy
from .items import clip_info, clip_of, collate_common, read_span


@dataclass
class CropSettings:
    """How a clip becomes a training crop; gains are drawn uniformly from ±the given number of dB."""

    num_samples: int = field(default=65536, metadata={"help": "length of a crop in samples"})
    channels: str = field(
        default="convert",
        metadata={
            "help": "clips of another channel count: convert (mono is repeated, stereo averaged), random (as "
            "many as the model has, drawn from those with more), skip (they are passed over)"
        },
    )
    silence_db: float | None = field(
        default=None, metadata={"help": "draw again below this RMS (dB of full scale)"}
    )
    silence_retries: int = field(default=8, metadata={"help": "how often to draw again; the loudest is kept"})
    gain_db: float = field(default=0.0, metadata={"help": "random gain of the whole crop, ± dB"})
    channel_gain_db: float = field(
        default=0.0, metadata={"help": "random gain per channel, ± dB: pans mono sources"}
    )
    swap_channels: bool = field(default=False, metadata={"help": "reverse the channels of every second crop"})

    def __post_init__(self) -> None:
        if self.num_samples < 1:
            raise ValueError(f"crops num_samples must be at least 1, got {self.num_samples}")
        if self.channels not in CHANNEL_POLICIES:
            raise ValueError(
                f"crops channels must be one of {', '.join(CHANNEL_POLICIES)}, got {self.channels!r}"
            )
        if self.silence_retries < 0:
            raise ValueError(f"crops silence_retries must be at least 0, got {self.silence_retries}")
        for name in ("gain_db", "channel_gain_db"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"crops {name} must be finite and at least 0, got {getattr(self, name)}")


class CropReader:
    """Reads one random crop, `waveform` (channels, settings.num_samples) float32, of a row's clip.

    The crop is at `sampling_rate`; see `ItemReader` for what it raises.

    Args:
        captions: makes a `text` beside the crop from the row's columns, empty where they hold none; the crop
            is the same with and without.
    """

    def __init__(
        self,
        settings: CropSettings,
        sampling_rate: int,
        channels: int,
        audio_column: str = "audio",
        captions: CaptionTemplates | None = None,
    ) -> None:
        self.settings = settings
        self.sampling_rate = sampling_rate
        self.channels = channels
        self.audio_column = audio_column
        self.captions = captions
        self.columns = list(dict.fromkeys([audio_column, *(captions.columns if captions else [])]))

    def __call__(self, row: Mapping[str, Any], random: np.random.Generator) -> dict[str, Any]:
        item: dict[str, Any] = {"waveform": self.read(clip_of(row[self.audio_column]), random)}
        if self.captions is not None:
            # after the crop, which then takes the same random numbers as without
            item["text"] = self.captions.draw(row, random)
        return item

    def read(self, clip: str | bytes | torch.Tensor, random: np.random.Generator) -> torch.Tensor:
        """Crop a path, encoded bytes, or a decoded clip `(channels, samples)`; zeros follow a short clip."""
        settings = self.settings
        info = clip_info(clip, self.sampling_rate)
        policy = ChannelPolicy.draw(settings.channels, info.channels, self.channels, random)
        best, best_level = None, -math.inf
        for _ in range(1 + (settings.silence_retries if settings.silence_db is not None else 0)):
            start = int(random.integers(max(0, info.num_frames - settings.num_samples) + 1))
            crop = policy(read_span(clip, start, settings.num_samples, self.sampling_rate))
            crop = torch.nn.functional.pad(crop, (0, settings.num_samples - crop.shape[-1]))
            if settings.silence_db is None:
                best = crop
                break
            level = 10.0 * math.log10(float(crop.square().mean()) + 1e-20)
            if best is None or level > best_level:
                best, best_level = crop, level
            if level >= settings.silence_db:
                break
        return self._augment(best, random)

    def _augment(self, crop: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
        settings = self.settings
        gains = random.uniform(-settings.gain_db, settings.gain_db)
        gains = gains + random.uniform(
            -settings.channel_gain_db, settings.channel_gain_db, size=self.channels
        )
        if settings.gain_db or settings.channel_gain_db:
            crop = crop * torch.from_numpy(10.0 ** (gains / 20.0)).float()[:, None]
            crop = crop / crop.abs().max().clamp(min=1.0)  # a gain must not push the target out of [-1, 1]
        if settings.swap_channels and random.random() < 0.5:
            crop = crop.flip(0)
        return crop.contiguous()


def collate_crops(items: list[dict[str, Any]]) -> dict[str, Any]:
    """A batch of crops: `waveform` (batch, channels, samples), and the list `text` where crops have one.

    See `collate_common` for the rest.
    """
    crops: dict[str, Any] = {"waveform": torch.stack([item["waveform"] for item in items])}
    if "text" in items[0]:
        crops["text"] = [item["text"] for item in items]
    return {**crops, **collate_common(items)}
