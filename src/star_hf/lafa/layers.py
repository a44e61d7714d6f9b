"""Attention with rotary positions, for the encoder's and the decoder's layers."""

import torch
from diffusers.models.embeddings import apply_rotary_emb, get_1d_rotary_pos_embed
from torch import nn
from torch.nn import functional as F

HEAD_DIM = 64
#: Of biases that start equal: a head of 64 then weighs the next place by a third, the one after by a 40th.
LOCALITY = 2.0

Rotary = tuple[torch.Tensor, torch.Tensor]


class RotaryAttention(nn.Module):
    """Multi-head attention of a sequence to itself or to a context; heads are 64 wide, or one is all.

    Args:
        hidden_size: width of the sequence and of the context.
        starts_local: give queries and keys biases that are equal at first, so that by rotary positions alone
            each position looks at its own place in the context, before anything has been learned.
    """

    def __init__(self, hidden_size: int, starts_local: bool = False):
        super().__init__()
        self.head_dim = min(HEAD_DIM, hidden_size)
        self.to_q = nn.Linear(hidden_size, hidden_size, bias=starts_local)
        self.to_kv = nn.Linear(hidden_size, 2 * hidden_size, bias=starts_local)
        self.to_out = nn.Linear(hidden_size, hidden_size, bias=False)
        if starts_local:
            nn.init.constant_(self.to_q.bias, LOCALITY)
            with torch.no_grad():
                self.to_kv.bias.zero_()[:hidden_size] = LOCALITY

    def forward(
        self,
        hidden_states: torch.Tensor,
        context: torch.Tensor | None = None,
        rotary: Rotary | None = None,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Attend.

        Args:
            hidden_states: `(batch, length, hidden_size)`.
            context: what to attend to, of the same shape; the sequence itself by default.
            rotary: from `rotary_positions`, for both sides.
            mask: true where a key may be seen, broadcastable to `(batch, heads, length, length)`.
        """
        context = hidden_states if context is None else context
        query = self._heads(self.to_q(hidden_states))
        key, value = (self._heads(part) for part in self.to_kv(context).chunk(2, dim=-1))
        if rotary is not None:
            query, key = apply_rotary_emb(query, rotary), apply_rotary_emb(key, rotary)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.to_out(attended.transpose(1, 2).flatten(2))

    def _heads(self, projected: torch.Tensor) -> torch.Tensor:
        return projected.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # (B, heads, L, head_dim)


def rotary_positions(frames: int, hidden_size: int, device: torch.device) -> Rotary:
    """Cosines and sines `(frames, head_dim)` of the positions 0, 1, …, for layers of this width."""
    positions = torch.arange(frames, device=device)
    return get_1d_rotary_pos_embed(min(HEAD_DIM, hidden_size), positions, use_real=True)


def check_width(name: str, hidden_size: int) -> None:
    """Raise a `ValueError` for a width that heads cannot share or rotary positions cannot pair."""
    if hidden_size < 2 or hidden_size % (HEAD_DIM if hidden_size > HEAD_DIM else 2):
        raise ValueError(f"`{name}` must be a multiple of {HEAD_DIM}, or even and below, got {hidden_size}")


def key_mask(frame_mask: torch.Tensor | None) -> torch.Tensor | None:
    """`(batch, frames)` of real frames as attention takes it, `(batch, 1, 1, frames)`."""
    if frame_mask is None:
        return None
    # where nothing is real everything is seen: attention to nothing is not a number
    return (frame_mask | ~frame_mask.any(dim=1, keepdim=True))[:, None, None, :]
