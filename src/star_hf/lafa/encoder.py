"""LAFA's encoder: a ViT over the time and the channels of latents."""

import torch
from diffusers.models.attention import FeedForward
from torch import nn

from .layers import Rotary, RotaryAttention, check_width, key_mask, rotary_positions
from .masking import channel_causal_mask

#: CUDA's attention kernels take no more sequences at once.
MOST_SEQUENCES = 65535


class LafaEncoderLayer(nn.Module):
    """Attention along time, attention along the channels, feed-forward: each on a normed residual stream."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.time_norm = nn.RMSNorm(hidden_size, eps=1e-5)
        self.time_attention = RotaryAttention(hidden_size)
        self.channel_norm = nn.RMSNorm(hidden_size, eps=1e-5)
        self.channel_attention = RotaryAttention(hidden_size)
        self.feed_forward_norm = nn.RMSNorm(hidden_size, eps=1e-5)
        self.feed_forward = FeedForward(hidden_size, mult=4, activation_fn="geglu")

    def forward(
        self,
        tokens: torch.Tensor,
        rotary: Rotary,
        time_mask: torch.Tensor | None,
        channel_mask: torch.Tensor | None,
    ) -> torch.Tensor:
        batch, groups, frames, _ = tokens.shape  # (B, G, T, hidden)
        rows = self.time_norm(tokens).flatten(0, 1)  # (B · G, T, hidden)
        attended = self.time_attention(rows, rotary=rotary, mask=time_mask)
        tokens = tokens + attended.unflatten(0, (batch, groups))
        columns = self.channel_norm(tokens).transpose(1, 2).flatten(0, 1)  # (B · T, G, hidden)
        attended = [self.channel_attention(part, mask=channel_mask) for part in columns.split(MOST_SEQUENCES)]
        tokens = tokens + torch.cat(attended).unflatten(0, (batch, frames)).transpose(1, 2)
        return tokens + self.feed_forward(self.feed_forward_norm(tokens))


class LafaEncoder(nn.Module):
    """Normalized latents, some channels masked → h at the same frame rate (LAFA, section 4.3).

    A token is a group of neighbouring channels at one frame. Every layer attends along the time of each group
    and along the groups of each frame. Positions in time are rotary, so that any length goes; those of the
    groups are learned. The paper draws the two axes and gives no sizes: patches and widths are ours.

    Args:
        in_channels: of the latents.
        out_channels: of h.
        hidden_size: width of a token, a multiple of 64, or even and below.
        num_layers: number of layers.
        channel_patch: channels in a group.
        causal: let a group attend to itself and those before it only: group g of h then depends on no later
            group of the latents ("channel-causal" mask, section 4.1).

    Raises:
        ValueError: a size does not fit.
    """

    gradient_checkpointing = False
    _no_split_modules = ["LafaEncoderLayer"]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden_size: int = 384,
        num_layers: int = 6,
        channel_patch: int = 4,
        causal: bool = True,
    ):
        super().__init__()
        check_width("encoder_hidden_size", hidden_size)
        if channel_patch < 1 or in_channels % channel_patch:
            raise ValueError(
                f"`channel_patch` must divide the {in_channels} channels of the latents, got {channel_patch}"
            )
        self.groups = in_channels // channel_patch
        if out_channels < 1 or out_channels % self.groups:
            raise ValueError(
                f"`latent_channels` must be a multiple of the {self.groups} groups of channels, "
                f"got {out_channels}"
            )
        if num_layers < 1:
            raise ValueError(f"`encoder_layers` must be at least 1, got {num_layers}")
        self.hidden_size, self.causal = hidden_size, causal
        self.in_proj = nn.Linear(channel_patch, hidden_size)
        self.position = nn.Parameter(0.02 * torch.randn(self.groups, 1, hidden_size))
        self.layers = nn.ModuleList(LafaEncoderLayer(hidden_size) for _ in range(num_layers))
        self.norm = nn.RMSNorm(hidden_size, eps=1e-5)
        self.out_proj = nn.Linear(hidden_size, out_channels // self.groups)

    def forward(
        self,
        latents: torch.Tensor,
        channel_mask: torch.Tensor | None = None,
        frame_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Encode.

        Args:
            latents: `(batch, in_channels, frames)`, of about unit variance.
            channel_mask: `(batch, in_channels)`, true for channels that are set to zero.
            frame_mask: `(batch, frames)`, true for real frames, which alone are attended to.

        Returns:
            h, `(batch, out_channels, frames)`.
        """
        if channel_mask is not None:
            latents = latents.masked_fill(channel_mask[:, :, None], 0.0)
        frames = latents.shape[-1]
        tokens = self.in_proj(latents.unflatten(1, (self.groups, -1)).mT) + self.position  # (B, G, T, hidden)
        rotary = rotary_positions(frames, self.hidden_size, latents.device)
        time_mask = None
        if frame_mask is not None:
            time_mask = key_mask(frame_mask.repeat_interleave(self.groups, dim=0))
        order = channel_causal_mask(self.groups, latents.device) if self.causal else None
        for layer in self.layers:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                tokens = self._gradient_checkpointing_func(layer, tokens, rotary, time_mask, order)
            else:
                tokens = layer(tokens, rotary, time_mask, order)
        return self.out_proj(self.norm(tokens)).mT.flatten(1, 2)
