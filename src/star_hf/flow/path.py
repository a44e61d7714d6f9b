"""The straight path from noise to latents (rectified flow): interpolation, target, times and loss."""

import torch


def interpolate(noise: torch.Tensor, latents: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Point on the path at time t: z_t = (1 - t) z_0 + t z_1 (STAR-Gen, arXiv 2606.23064, equation 7).

    Args:
        noise: z_0 ~ N(0, I), `(batch, ...)`.
        latents: z_1, normalized latents of the same shape.
        t: `(batch,)` in [0, 1]; 0 is noise, 1 is data.

    Raises:
        ValueError: a shape does not fit.
    """
    require_same_shape("noise", noise, "latents", latents)
    if t.shape != latents.shape[:1]:
        raise ValueError(
            f"`t` must have shape {tuple(latents.shape[:1])}, one time per row, got {tuple(t.shape)}"
        )
    t = t.to(latents.dtype).reshape(-1, *(1,) * (latents.ndim - 1))
    return (1 - t) * noise + t * latents


def velocity_target(noise: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    """dz_t/dt = z_1 - z_0: what the model learns to predict, at every t of the path.

    Raises:
        ValueError: the shapes differ.
    """
    require_same_shape("noise", noise, "latents", latents)
    return latents - noise


def sample_times(
    batch: int,
    mean: float = 0.0,
    std: float = 1.0,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    """Training times `(batch,)`, float32: logit(t) ~ N(mean, std²) (Esser et al., arXiv 2403.03206).

    Drawn on the generator's device and moved to `device`: a CPU generator gives the same times everywhere.

    Raises:
        ValueError: `batch` < 1 or `std` < 0.
    """
    if batch < 1:
        raise ValueError(f"`batch` must be at least 1, got {batch}")
    if not std >= 0:
        raise ValueError(f"`std` must not be negative, got {std}")
    source = generator.device if generator is not None else device
    normal = torch.randn(batch, generator=generator, device=source, dtype=torch.float32)
    return logit_normal_times(normal, mean, std).to(device if device is not None else source)


def logit_normal_times(normal: torch.Tensor, mean: float = 0.0, std: float = 1.0) -> torch.Tensor:
    """The times of standard normal numbers: logit(t) = mean + std · n, of the same shape.

    Where the numbers are quantiles of the normal distribution, the times are the same quantiles of theirs.
    """
    return torch.sigmoid(mean + std * normal)


def flow_matching_loss(
    prediction: torch.Tensor,
    target: torch.Tensor,
    mask: torch.Tensor | None = None,
    reduction: str = "mean",
) -> torch.Tensor:
    """Mean squared error between velocities over the real frames, in float32.

    L = mean of (v_theta - (z_1 - z_0))² over frames and channels, every real frame weighing the same.

    Args:
        prediction, target: `(batch, frames, channels)`.
        mask: `(batch, frames)`, true for real frames; all of them by default.
        reduction: `"mean"` for a scalar, `"none"` for each row's own mean, `(batch,)`.

    Raises:
        ValueError: a shape does not fit, or the reduction is unknown.
    """
    require_same_shape("prediction", prediction, "target", target)
    if reduction not in ("mean", "none"):
        raise ValueError(f"`reduction` must be 'mean' or 'none', got {reduction!r}")
    if mask is not None and mask.shape != prediction.shape[:2]:
        raise ValueError(
            f"`mask` must have shape {tuple(prediction.shape[:2])}, (batch, frames), got {tuple(mask.shape)}"
        )
    error = (prediction.float() - target.float()).square().mean(dim=-1)
    weights = torch.ones_like(error) if mask is None else mask.to(error.dtype)
    over = (0, 1) if reduction == "mean" else 1
    return (error * weights).sum(dim=over) / weights.sum(dim=over).clamp(min=1)


def require_same_shape(first_name: str, first: torch.Tensor, second_name: str, second: torch.Tensor) -> None:
    # Broadcasting would turn a transposed argument into a wrong loss without a word.
    if first.shape != second.shape:
        raise ValueError(
            f"`{first_name}` and `{second_name}` must have the same shape, got "
            f"{tuple(first.shape)} and {tuple(second.shape)}"
        )
