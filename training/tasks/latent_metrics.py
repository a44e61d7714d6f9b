"""Numbers of a batch's latents for the log."""

import torch

from star_hf.regularizers import channel_kl, rate_kbps


def latent_metrics(
    mean: torch.Tensor, std: torch.Tensor, frame_rate: float, gaussian: bool
) -> dict[str, torch.Tensor]:
    """How the information, or what there is in its place, is spread over the channels.

    Of a Gaussian posterior: mean KL of the first and of the last eighth of the channels, the total, and the
    rate. Without one there is no KL: the mean standard deviation of the channels, and that of the first and
    of the last eighth.

    Args:
        mean, std: `(batch, channels, frames)`.
        frame_rate: latent frames per second.
    """
    if gaussian:
        name, per_channel = "kl", channel_kl(mean, std)
        total = {"nats_per_frame": per_channel.sum(), "kbit/s": rate_kbps(mean, std, frame_rate)}
    else:
        name, per_channel = "std", mean.std(dim=(0, 2), correction=0)
        total = {"latent_std": per_channel.mean()}
    eighth = max(1, len(per_channel) // 8)
    return {
        f"{name}_head": per_channel[:eighth].mean(),
        f"{name}_tail": per_channel[-eighth:].mean(),
        **total,
    }
