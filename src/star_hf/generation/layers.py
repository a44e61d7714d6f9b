"""What STAR-Gen puts in front of the language model: latents and time become audio tokens."""

import torch
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from torch import nn


class AudioTokenEmbedding(nn.Module):
    """Audio tokens: a linear projection of the latents plus the embedding of t, the same for every frame.

    Args:
        latent_channels: channels of the latents.
        hidden_size: width of the tokens.
        time_embedding_dim: number of sinusoids of t.
        time_embedding_scale: factor on t before the sinusoids.
    """

    def __init__(
        self, latent_channels: int, hidden_size: int, time_embedding_dim: int, time_embedding_scale: float
    ):
        super().__init__()
        self.latent_projection = nn.Linear(latent_channels, hidden_size)
        self.time_sinusoids = Timesteps(
            time_embedding_dim, flip_sin_to_cos=True, downscale_freq_shift=0, scale=time_embedding_scale
        )
        self.time_embedding = TimestepEmbedding(time_embedding_dim, hidden_size)

    def forward(self, latents: torch.Tensor, timestep: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """`(batch, frames, latent_channels)` and t `(batch,)` to `(batch, frames, hidden_size)`."""
        tokens = self.latent_projection(latents.to(dtype))
        # The sinusoids are computed in float32: in half precision 1000 t has no fraction left.
        time = self.time_embedding(self.time_sinusoids(timestep).to(dtype))
        return tokens + time[:, None, :].to(tokens.device)
