"""LAFA's decoder: from noise and h to the latents of the frozen autoencoder along a straight flow."""

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.normalization import AdaLayerNormContinuous, AdaLayerNormZero
from torch import nn

from .layers import Rotary, RotaryAttention, check_width, key_mask, rotary_positions

TIME_CHANNELS = 256
#: Sinusoids of the time were made for numbers of steps up to this one.
TIME_SCALE = 1000.0


class LafaDecoderLayer(nn.Module):
    """Self-attention and feed-forward modulated by the time, cross-attention to h between them."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.norm = AdaLayerNormZero(hidden_size)
        self.attention = RotaryAttention(hidden_size)
        self.cross_norm = nn.LayerNorm(hidden_size)
        self.cross_attention = RotaryAttention(hidden_size, starts_local=True)
        self.feed_forward_norm = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
        self.feed_forward = FeedForward(hidden_size, mult=4, activation_fn="geglu")
        nn.init.zeros_(self.norm.linear.weight)
        nn.init.zeros_(self.norm.linear.bias)

    def forward(
        self,
        hidden_states: torch.Tensor,
        condition: torch.Tensor,
        time: torch.Tensor,
        rotary: Rotary,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        normed, gate, shift, scale, feed_forward_gate = self.norm(hidden_states, emb=time)
        attended = self.attention(normed, rotary=rotary, mask=mask)
        hidden_states = hidden_states + gate[:, None] * attended
        crossed = self.cross_attention(self.cross_norm(hidden_states), condition, rotary=rotary, mask=mask)
        hidden_states = hidden_states + crossed
        normed = self.feed_forward_norm(hidden_states) * (1 + scale[:, None]) + shift[:, None]
        return hidden_states + feed_forward_gate[:, None] * self.feed_forward(normed)


class LafaDecoder(nn.Module):
    """Velocity of noisy latents towards the clean ones, given h through cross-attention (LAFA, section 4.3).

    Time runs as in `star_hf.flow`, from 0 at noise to 1 at data; the paper's is 1 − t. Queries and keys of
    the cross-attention carry the same rotary positions, and it begins by looking at the frame of h that
    belongs to that of the latents; left to training, this takes longer (our choice, the paper tells none).

    Args:
        channels: of the latents.
        condition_channels: of h.
        hidden_size: width, a multiple of 64, or even and below.
        num_layers: number of layers.

    Raises:
        ValueError: a size does not fit.
    """

    gradient_checkpointing = False
    _no_split_modules = ["LafaDecoderLayer"]

    def __init__(self, channels: int, condition_channels: int, hidden_size: int = 512, num_layers: int = 8):
        super().__init__()
        check_width("decoder_hidden_size", hidden_size)
        if num_layers < 1:
            raise ValueError(f"`decoder_layers` must be at least 1, got {num_layers}")
        self.hidden_size = hidden_size
        self.in_proj = nn.Linear(channels, hidden_size)
        self.condition_proj = nn.Linear(condition_channels, hidden_size)
        self.condition_norm = nn.LayerNorm(hidden_size)
        self.time_proj = Timesteps(TIME_CHANNELS, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(TIME_CHANNELS, hidden_size)
        self.layers = nn.ModuleList(LafaDecoderLayer(hidden_size) for _ in range(num_layers))
        self.norm = AdaLayerNormContinuous(hidden_size, hidden_size, elementwise_affine=False, eps=1e-6)
        self.out_proj = nn.Linear(hidden_size, channels)
        # adaLN-Zero (DiT): no layer does anything at first, and the velocity is 0
        for linear in (self.norm.linear, self.out_proj):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self,
        noisy: torch.Tensor,
        h: torch.Tensor,
        t: torch.Tensor,
        frame_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Predict.

        Args:
            noisy: latents on the path at `t`, `(batch, channels, frames)`.
            h: `(batch, condition_channels, frames)`.
            t: `(batch,)` in [0, 1]; 0 is noise, 1 is data.
            frame_mask: `(batch, frames)`, true for real frames, which alone are attended to.

        Returns:
            The velocity towards the data, like `noisy`.
        """
        hidden_states = self.in_proj(noisy.mT)  # (B, T, hidden)
        condition = self.condition_norm(self.condition_proj(h.mT))
        time = self.time_embedding(self.time_proj(TIME_SCALE * t).to(hidden_states.dtype))
        rotary = rotary_positions(noisy.shape[-1], self.hidden_size, noisy.device)
        mask = key_mask(frame_mask)
        for layer in self.layers:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                hidden_states = self._gradient_checkpointing_func(
                    layer, hidden_states, condition, time, rotary, mask
                )
            else:
                hidden_states = layer(hidden_states, condition, time, rotary, mask)
        return self.out_proj(self.norm(hidden_states, time)).mT

    def integrate(self, noise: torch.Tensor, h: torch.Tensor, num_steps: int) -> torch.Tensor:
        """Latents after `num_steps` Euler steps of equal size from `noise`, `(batch, channels, frames)`."""
        latents = noise
        for step in range(num_steps):
            t = torch.full(noise.shape[:1], step / num_steps, device=noise.device)
            latents = latents + self(latents, h, t) / num_steps
        return latents
