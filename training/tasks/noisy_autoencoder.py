"""The autoencoder as it is trained: one forward pass from waveforms to reconstructions and latent losses."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from engine.noise import SampleNoise
from star_hf.autoencoder import AutoencoderStar
from star_hf.losses import balance_gradients
from star_hf.regularizers import LatentNoise
from tasks.objectives import SEMANTIC


class NoisyAutoencoder(nn.Module):
    """Waveform and noise → reconstruction, posterior, losses on the latents.

    Everything with trained weights is called in here, so that wrappers for several processes see it.

    Args:
        vae: the autoencoder.
        objectives: loss modules on the latents by name; `forward` returns their values.
        latent_noise: scale of the noise on what the decoder sees, in units of the latents' running std.
        gradient_fraction: norm of the semantic loss's gradient at the latents, as a share of the
            reconstruction's; `None` leaves it to the loss weight.
        adversary_reaches_encoder: whether the reconstruction for the discriminator is the one that trains the
            encoder; otherwise the latents are decoded a second time, detached.
    """

    def __init__(
        self,
        vae: AutoencoderStar,
        objectives: dict[str, nn.Module] | None = None,
        latent_noise: float = 0.0,
        gradient_fraction: float | None = None,
        adversary_reaches_encoder: bool = True,
    ) -> None:
        super().__init__()
        self.vae = vae
        self.objectives = nn.ModuleDict(objectives or {})
        self.latent_noise = LatentNoise(latent_noise) if latent_noise else None
        self.gradient_fraction = gradient_fraction if SEMANTIC in self.objectives else None
        self.adversary_reaches_encoder = adversary_reaches_encoder

    def forward(
        self,
        waveform: torch.Tensor,
        noise: SampleNoise,
        noise_scale: float = 1.0,
        targets: dict[str, dict[str, Any]] | None = None,
        with_adversary: bool = False,
    ) -> dict[str, Any]:
        """One pass.

        Args:
            waveform: `(batch, channels, samples)`.
            noise: of the posterior, the latent noise and the objectives, in this order.
            noise_scale: of the posterior's noise.
            targets: what each objective compares with; `None` leaves the objectives out.
            with_adversary: also return what the discriminator is to see.

        Returns:
            `reconstruction` and, where asked for, `for_adversary`, of the shape of `waveform`; `mean`, `std`
            `(batch, latent_channels, frames)`; `latents`, the drawn ones; `losses` by objective. In float32.
        """
        posterior = self.vae.encode(waveform).latent_dist
        latents = posterior.draw(noise.normal, noise_scale)
        for_decoder = for_alignment = latents
        if self.gradient_fraction is not None and targets is not None:
            for_decoder, for_alignment = balance_gradients(latents, self.gradient_fraction)
        if self.latent_noise is not None:
            for_decoder = self.latent_noise(for_decoder, noise.normal)

        reconstruction = self._decode(for_decoder, waveform)
        output = {
            "reconstruction": reconstruction,
            "mean": posterior.mean.float(),
            "std": posterior.std.float(),
            "latents": latents.float(),
        }
        if with_adversary:
            output["for_adversary"] = (
                reconstruction
                if self.adversary_reaches_encoder
                else self._decode(for_decoder.detach(), waveform)
            )
        if targets is not None:
            output["losses"] = {
                name: module(
                    (for_alignment if name == SEMANTIC else latents).float(), noise, **targets[name]
                ).float()
                for name, module in self.objectives.items()
            }
        return output

    def _decode(self, latents: torch.Tensor, waveform: torch.Tensor) -> torch.Tensor:
        return self.vae.decode(latents).sample[..., : waveform.shape[-1]].float()
