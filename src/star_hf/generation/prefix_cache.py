"""The text prefix: keys and values of the prompts, computed once and read by every sampling step."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer


@dataclass
class TextPrefix:
    """Keys and values of the text in every layer of the backbone; they depend neither on the audio nor on t.

    Attributes:
        keys, values: one tensor per layer, `(batch, key_value_heads, tokens, head_dim)`.
        attention_mask: `(batch, tokens)`, true for real tokens.
        is_padded: whether any token is padding.
    """

    keys: tuple[torch.Tensor, ...]
    values: tuple[torch.Tensor, ...]
    attention_mask: torch.Tensor
    is_padded: bool = field(init=False)

    def __post_init__(self):
        # Asked once here and not at every step, because the answer has to come back from the accelerator.
        self.is_padded = not bool(self.attention_mask.all())

    @classmethod
    def from_cache(cls, cache: DynamicCache, attention_mask: torch.Tensor) -> TextPrefix:
        """The prefix that a forward pass over text alone has left in `cache`."""
        keys = tuple(layer.keys for layer in cache.layers)
        values = tuple(layer.values for layer in cache.layers)
        return cls(keys, values, attention_mask)

    @property
    def batch_size(self) -> int:
        return self.attention_mask.shape[0]

    @property
    def num_tokens(self) -> int:
        return self.attention_mask.shape[1]

    def select(self, rows: torch.Tensor) -> TextPrefix:
        """The prefix of the given rows, `(new_batch,)` integers, which may repeat."""

        def pick(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.index_select(0, rows.to(tensor.device))

        return TextPrefix(
            tuple(pick(key) for key in self.keys),
            tuple(pick(value) for value in self.values),
            pick(self.attention_mask),
        )

    def as_cache(self) -> Cache:
        """A cache of transformers that puts this prefix in front of new keys and values, and stores none."""
        return Cache(layers=[_ReadOnlyLayer(*pair) for pair in zip(self.keys, self.values, strict=True)])


class _ReadOnlyLayer(DynamicLayer):
    """A layer of the cache whose `update` stores nothing: steps need neither cropping nor copying it back."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor):
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs):
        return torch.cat([self.keys, key_states], dim=-2), torch.cat([self.values, value_states], dim=-2)
