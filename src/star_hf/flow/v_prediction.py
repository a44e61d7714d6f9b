"""The circular path from latents to noise and its velocity: v-prediction, as Stable Audio Open is trained."""

import torch

from .path import require_same_shape


def rotate(noise: torch.Tensor, latents: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Point on the path at an angle φ: x_φ = cos φ z + sin φ ε (Salimans and Ho, arXiv 2202.00512).

    Args:
        noise: ε ~ N(0, I), `(batch, ...)`.
        latents: z of the same shape, of about unit variance.
        angle: `(batch,)` in [0, π/2]; 0 is data, π/2 is noise. tan φ is the noise level σ of EDM.

    Raises:
        ValueError: a shape does not fit.
    """
    cosine, sine = _cosine_and_sine(noise, latents, angle)
    return cosine * latents + sine * noise


def v_target(noise: torch.Tensor, latents: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """dx_φ/dφ = cos φ ε - sin φ z: what the model learns to predict.

    Raises:
        ValueError: a shape does not fit.
    """
    cosine, sine = _cosine_and_sine(noise, latents, angle)
    return cosine * noise - sine * latents


def _cosine_and_sine(
    noise: torch.Tensor, latents: torch.Tensor, angle: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    require_same_shape("noise", noise, "latents", latents)
    if angle.shape != latents.shape[:1]:
        raise ValueError(
            f"`angle` must have shape {tuple(latents.shape[:1])}, one angle per row, got {tuple(angle.shape)}"
        )
    angle = angle.to(latents.dtype).reshape(-1, *(1,) * (latents.ndim - 1))
    return angle.cos(), angle.sin()
