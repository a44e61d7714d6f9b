"""The bidirectional stack between the CNN and the bottleneck: Mamba-2, Transformer, or nothing.

Features are `(batch, channels, 1, frames)` as in `layers.py`. A stack works at its own width between two
projections, the last of which starts at zero, so that adding it to a trained CNN changes nothing until it has
learned something.
"""

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.embeddings import apply_rotary_emb, get_1d_rotary_pos_embed
from torch import nn
from torch.nn import functional as F
from transformers import Mamba2Config

from .mamba import SegmentedMamba2Mixer

CONTEXT_TYPES = ("mamba", "transformer", "none")
HEAD_DIM = 64
PIECE_FRAMES = 1024


class BidirectionalMamba2Layer(nn.Module):
    """One Mamba-2 mixer reads the frames forward, one backward; their outputs are added to the input."""

    def __init__(self, hidden_size: int):
        super().__init__()
        config = Mamba2Config(
            hidden_size=hidden_size,
            expand=2,
            head_dim=min(HEAD_DIM, hidden_size),
            num_heads=max(1, 2 * hidden_size // min(HEAD_DIM, hidden_size)),
            state_size=64,
            n_groups=1,
            num_hidden_layers=1,
        )
        self.norm = nn.RMSNorm(hidden_size, eps=1e-5)
        self.mixer = SegmentedMamba2Mixer(config)
        self.reverse_mixer = SegmentedMamba2Mixer(config)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        normed = self.norm(hidden_states)
        return hidden_states + self.mixer(normed) + self.reverse_mixer(normed, reverse=True)


class TransformerLayer(nn.Module):
    """Pre-norm self-attention over all frames with rotary positions, then a gated feed-forward layer."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.head_dim = min(HEAD_DIM, hidden_size)
        self.attention_norm = nn.RMSNorm(hidden_size, eps=1e-5)
        self.to_qkv = nn.Linear(hidden_size, 3 * hidden_size, bias=False)
        self.to_out = nn.Linear(hidden_size, hidden_size, bias=False)
        self.feed_forward_norm = nn.RMSNorm(hidden_size, eps=1e-5)
        self.feed_forward = FeedForward(hidden_size, mult=4, activation_fn="geglu")

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        batch, frames, width = hidden_states.shape
        qkv = self.to_qkv(self.attention_norm(hidden_states)).view(batch, frames, 3, -1, self.head_dim)
        query, key, value = qkv.transpose(1, 3).unbind(2)  # (B, heads, F, head_dim)
        cosine, sine = get_1d_rotary_pos_embed(
            self.head_dim, torch.arange(frames, device=hidden_states.device), use_real=True
        )
        rotary = (cosine.to(query.device), sine.to(query.device))
        query, key = apply_rotary_emb(query, rotary), apply_rotary_emb(key, rotary)
        attended = F.scaled_dot_product_attention(query, key, value)
        hidden_states = hidden_states + self.to_out(attended.transpose(1, 2).reshape(batch, frames, width))
        return hidden_states + self.feed_forward(self.feed_forward_norm(hidden_states))


LAYERS = {"mamba": BidirectionalMamba2Layer, "transformer": TransformerLayer}


class ContextStack(nn.Module):
    """`(batch, channels, 1, frames)` → the same shape; the identity at initialization.

    Args:
        context_type: `"mamba"` or `"transformer"`.
        channels: width of the features.
        hidden_size: width of the stack, divisible by 64, or even and below that.
        num_layers: number of layers.
    """

    gradient_checkpointing = False

    def __init__(self, context_type: str, channels: int, hidden_size: int, num_layers: int):
        super().__init__()
        self.in_proj = nn.Linear(channels, hidden_size)
        self.layers = nn.ModuleList(LAYERS[context_type](hidden_size) for _ in range(num_layers))
        self.norm = nn.RMSNorm(hidden_size, eps=1e-5)
        self.out_proj = nn.Linear(hidden_size, channels)
        nn.init.zeros_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        hidden_states = self.in_proj(features.squeeze(2).transpose(1, 2))  # (B, F, hidden)
        for layer in self.layers:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                hidden_states = self._gradient_checkpointing_func(layer, hidden_states)
            else:
                hidden_states = layer(hidden_states)
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return features + self._update(hidden_states)
        # of a long sequence, the features are the most of the memory: no copy of them beyond the result
        result = torch.empty_like(features)
        pieces = (tensor.split(PIECE_FRAMES, dim=-1) for tensor in (features, result))
        for piece, out, hidden in zip(*pieces, hidden_states.split(PIECE_FRAMES, dim=1), strict=True):
            torch.add(piece, self._update(hidden), out=out)
        return result

    def _update(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.out_proj(self.norm(hidden_states)).transpose(1, 2).unsqueeze(2)


def make_context(context_type: str, channels: int, hidden_size: int, num_layers: int) -> nn.Module:
    """A `ContextStack`, or `nn.Identity` for `"none"`."""
    if context_type not in CONTEXT_TYPES:
        raise ValueError(f"`context_type` must be one of {', '.join(CONTEXT_TYPES)}, not {context_type!r}.")
    if context_type == "none":
        return nn.Identity()
    if num_layers < 1:
        raise ValueError(
            f"`num_context_layers` must be at least 1 for a {context_type} context, not {num_layers}; "
            "use `context_type='none'` for no context."
        )
    # Heads are 64 wide, or one head is as wide as the stack; rotary positions need an even width.
    if hidden_size < 2 or hidden_size % (HEAD_DIM if hidden_size > HEAD_DIM else 2):
        raise ValueError(
            f"`context_hidden_size` must be a multiple of {HEAD_DIM} or even and below, not {hidden_size}."
        )
    return ContextStack(context_type, channels, hidden_size, num_layers)
