"""How a clip of another number of channels becomes the model's."""

from dataclasses import dataclass

import numpy as np
import torch

from ..audio import convert_channels
from .items import UnwantedClip

CHANNEL_POLICIES = ("convert", "random", "skip")


@dataclass(frozen=True)
class ChannelPolicy:
    """Turns (from_channels, samples) into (channels, samples) in the same way for every span of one clip.

    `picked`: the channels to take, or `None` to repeat mono and to average stereo (`convert_channels`).
    """

    channels: int
    picked: list[int] | None = None

    @classmethod
    def draw(
        cls, name: str, from_channels: int, channels: int, random: np.random.Generator
    ) -> "ChannelPolicy":
        """Decide for one clip; `name` is one of `CHANNEL_POLICIES`. Raises `UnwantedClip` to pass it over."""
        if name == "skip" and from_channels != channels:
            raise UnwantedClip(f"{from_channels} channels instead of {channels}")
        if name == "random" and from_channels > channels:
            return cls(channels, sorted(random.choice(from_channels, channels, replace=False).tolist()))
        return cls(channels)

    def __call__(self, waveform: torch.Tensor) -> torch.Tensor:
        if self.picked is not None:
            return waveform[self.picked]
        return convert_channels(waveform, self.channels)
