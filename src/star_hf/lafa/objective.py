"""What LAFA is trained for: the velocity between noise and the clean latents of the frozen autoencoder."""

import torch

from ..flow import flow_matching_loss, velocity_target


def lafa_loss(
    velocity: torch.Tensor,
    latents: torch.Tensor,
    noise: torch.Tensor,
    frame_mask: torch.Tensor | None = None,
    reduction: str = "mean",
) -> torch.Tensor:
    """Mean of ‖Û − (ε − Z_0)‖² over channels and real frames, in float32 (LAFA, section 4.3).

    The paper's time runs from data (0) to noise (1) and its U = ε − Z_0 points to the noise. Here and in
    `star_hf.flow` time t = 1 − t_paper runs from noise to data and the velocity is −U: the same loss.

    Args:
        velocity: of the decoder, towards the data, `(batch, channels, frames)`.
        latents: Z_0, normalized latents of the frozen autoencoder.
        noise: ε.
        frame_mask: `(batch, frames)`, true for real frames; all of them by default.
        reduction: `"mean"` for a scalar, `"none"` for each row's own mean, `(batch,)`.

    Raises:
        ValueError: a shape does not fit, or the reduction is unknown.
    """
    return flow_matching_loss(velocity.mT, velocity_target(noise, latents).mT, frame_mask, reduction)
