"""An autoencoder that is a matrix, and the sounds that it is probed on."""

from __future__ import annotations

import math

import torch

from star_hf.audit import Codec
from star_hf.generation.vae_interface import LatentMoments

RATE, HOP = 8000, 400


class LinearCodec(Codec):
    """Latents are the first rows of a random orthonormal transform of each `HOP` samples.

    `std` is the posterior's, `kind` what it is called, `constant` how many channels of 3 are appended.
    """

    def __init__(self, channels=6, std=0.1, kind="gaussian", constant=0, seed=0):
        model = torch.nn.Linear(HOP, channels, bias=False)
        model.config = {"audio_channels": 1, "seed": seed}
        super().__init__(model, channels + constant, HOP, RATE)
        random = torch.randn(HOP, HOP, generator=torch.Generator().manual_seed(seed))
        model.weight.data = torch.linalg.qr(random)[0][:channels].clone()
        self.std, self.kind, self.constant = std, kind, constant

    def _encode(self, waveform):
        mean = self.model.weight @ waveform[:, 0].unflatten(-1, (-1, HOP)).transpose(1, 2)
        mean = torch.cat([mean, torch.full((len(mean), self.constant, mean.shape[2]), 3.0)], dim=1)
        return LatentMoments(mean, torch.full_like(mean, self.std), self.kind)

    def _decode(self, latents):
        latents = latents[:, : self.latent_channels - self.constant]
        return (self.model.weight.T @ latents).transpose(1, 2).flatten(1)[:, None]


def make_waveform(label, seconds, number):
    time = torch.arange(round(seconds * RATE)) / RATE
    if label == "noise":
        return 0.3 * torch.randn(1, len(time), generator=torch.Generator().manual_seed(number))
    return 0.4 * torch.sin(2 * math.pi * (200 + 20 * number) * time)[None]
