"""Who attends to whom: text causally to text, audio to everything that is not padding."""

import torch
from transformers.utils.generic import is_flash_attention_requested


def text_positions(attention_mask: torch.Tensor) -> torch.Tensor:
    """Positions `(batch, tokens)` that count real tokens only, so that padding moves nothing."""
    return (attention_mask.long().cumsum(dim=-1) - 1).clamp(min=0)


def audio_positions(attention_mask: torch.Tensor, num_frames: int) -> torch.Tensor:
    """Positions `(batch, frames)` that go on where the row's real text tokens end."""
    frames = torch.arange(num_frames, device=attention_mask.device)
    return attention_mask.long().sum(dim=-1, keepdim=True) + frames


def text_attention(attention_mask: torch.Tensor) -> torch.Tensor:
    """Boolean `(batch, 1, tokens, tokens)`: each token attends to the real tokens up to itself.

    A padding token, to which nothing else attends, attends to itself: without any key its softmax is not a
    number in some kernels.
    """
    tokens = attention_mask.shape[1]
    causal = torch.ones(tokens, tokens, dtype=torch.bool, device=attention_mask.device).tril()
    itself = torch.eye(tokens, dtype=torch.bool, device=attention_mask.device)
    return ((causal & attention_mask[:, None, :]) | itself)[:, None]


def audio_attention(
    attention_mask: torch.Tensor, audio_mask: torch.Tensor | None, num_frames: int
) -> torch.Tensor:
    """Boolean `(batch, 1, frames, tokens + frames)`: every frame attends to all real tokens and frames."""
    keys = key_padding(attention_mask, audio_mask, num_frames)
    return keys[:, None, None, :].expand(-1, -1, num_frames, -1)


def joint_attention(
    attention_mask: torch.Tensor, audio_mask: torch.Tensor | None, num_frames: int
) -> torch.Tensor:
    """Boolean `(batch, 1, tokens + frames, tokens + frames)`: text above, audio below."""
    text = torch.nn.functional.pad(text_attention(attention_mask), (0, num_frames), value=False)
    return torch.cat([text, audio_attention(attention_mask, audio_mask, num_frames)], dim=2)


def key_padding(
    attention_mask: torch.Tensor, audio_mask: torch.Tensor | None, num_frames: int
) -> torch.Tensor:
    """Boolean `(batch, tokens + frames)`, true where a token or a frame is real."""
    if audio_mask is None:
        audio_mask = attention_mask.new_ones(attention_mask.shape[0], num_frames)
    return torch.cat([attention_mask, audio_mask], dim=1)


def for_backend(mask: torch.Tensor, implementation: str, dtype: torch.dtype) -> torch.Tensor:
    """The boolean mask in the form that the attention implementation reads: eager adds it to the scores."""
    if implementation != "eager":
        return mask
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)


def uses_flash_attention(config) -> bool:
    """Whether the configured attention takes padding as `(batch, keys)` and no other mask."""
    return is_flash_attention_requested(config)
