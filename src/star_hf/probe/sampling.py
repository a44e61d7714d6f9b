"""Latents from captions by a trained generator."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ..data import noise_seed
from ..flow import classifier_free_guidance
from .clips import ProbeClips
from .latents import EncodedClips
from .networks import Captions
from .settings import ProbeSettings
from .trainer import autocast

GENERATION_STREAM = 23  # keeps this noise apart from that of training and validation


@torch.no_grad()
def generate(
    network: nn.Module,
    encoded: EncodedClips,
    clips: ProbeClips,
    captions: Captions,
    settings: ProbeSettings,
    seed: int,
    device: torch.device,
    step: Callable[[], object] = lambda: None,
) -> list[torch.Tensor]:
    """Standardized latents `(frames, channels)` for the captions of `clips.prompts`, as long as their clips.

    Euler's method from noise (t = 0) to latents (t = 1), with guidance where there are captions. The noise of
    a clip belongs to the seed and its number, so that it is the same at every budget.
    """
    prompts = clips.prompts(settings.num_generated)
    latents = []
    for start in range(0, len(prompts), settings.batch_size):
        own = prompts[start : start + settings.batch_size]
        lengths = [encoded.num_frames[encoded.num_training + clip] for clip in own]
        noise = torch.zeros(len(own), network.window or max(lengths), encoded.channels)
        for row, (values, length) in enumerate(zip(noise, lengths, strict=True)):
            length = network.window or length
            generator = torch.Generator().manual_seed(noise_seed(seed, start + row, GENERATION_STREAM))
            values[:length] = torch.randn(length, encoded.channels, generator=generator)
        texts = [clips.held_out.captions[clip][0] for clip in own]
        frames = torch.tensor(lengths, device=device)
        with autocast(device, settings.precision):
            batch = _integrate(network, noise.to(device), texts, frames, captions, settings)
        latents += [values[:length] for values, length in zip(batch.float().cpu(), lengths, strict=True)]
        step()
    return latents


def _integrate(
    network: nn.Module,
    latents: torch.Tensor,
    texts: list[str],
    frames: torch.Tensor,
    captions: Captions,
    settings: ProbeSettings,
) -> torch.Tensor:
    guided = settings.guidance_scale != 1 and any(texts)
    if guided:
        texts, frames = [""] * len(texts) + texts, torch.cat([frames, frames])
    text = network.encode_text(captions.rows(texts, latents.device))
    for number in range(settings.sampling_steps):
        t = torch.full((len(texts),), number / settings.sampling_steps, device=latents.device)
        velocity = network(torch.cat([latents, latents]) if guided else latents, t, text, frames).float()
        if guided:
            velocity = classifier_free_guidance(*velocity.chunk(2), settings.guidance_scale)
        latents = latents + velocity / settings.sampling_steps
    return latents
