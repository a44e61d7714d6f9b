"""Embeddings of captions by a frozen text encoder of transformers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForTextEncoding,
    AutoTokenizer,
    ClapTextModel,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING

from .frozen_models import load_frozen

# Longer captions are cut: what follows says little about a clip.
_MOST_TOKENS = 512


class CaptionEncoder:
    """`encoder(captions)` → `(captions, hidden_size)`: last hidden states, averaged over a text's tokens.

    The empty text has the embedding 0. Embeddings are kept by their caption. It is no module: assigned to
    one, it is no part of its state and its parameters. Made by `from_pretrained`.

    Attributes:
        hidden_size: width of the embeddings.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: Any, batch_size: int = 1, cache_size: int = 100_000
    ) -> None:
        for name, size in (("batch_size", batch_size), ("cache_size", cache_size)):
            if size < 1:
                raise ValueError(f"`{name}` must be at least 1, not {size}.")
        self.model = model.requires_grad_(False).eval()
        self.tokenizer = tokenizer
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.hidden_size: int = model.config.get_text_config().hidden_size
        self.batch_size, self.cache_size = batch_size, cache_size
        self._cache: OrderedDict[str, torch.Tensor] = OrderedDict()

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        revision: str | None = None,
        batch_size: int = 1,
        cache_size: int = 100_000,
    ) -> CaptionEncoder:
        """Load a text model from a folder or the Hub, safetensors only.

        Any that `AutoModel` knows and that has a tokenizer: encoders (BERT, RoBERTa), decoders (Qwen3), the
        encoder of both (T5), the text tower of CLAP.

        Args:
            dtype: of the model's weights, float32 by default; embeddings are float32 in any case.
            batch_size: new captions that are encoded together. More than one is faster on an accelerator, but
                then an embedding depends, by rounding, on which captions were new at the same time.
            cache_size: captions whose embeddings are kept, in the CPU's memory; the oldest are given up.

        Raises:
            ValueError: if the model is no text model or lacks weights, or a size is less than 1.
            OSError: if there is no such model, or it has no safetensors.
        """
        config = AutoConfig.from_pretrained(name_or_path, revision=revision)
        loader: Any = AutoModel
        if type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING:
            loader = AutoModelForTextEncoding
        elif config.model_type == "clap_text_model":
            loader = ClapTextModel
        model = load_frozen(loader, name_or_path, dtype, revision, _text_tower)
        if model.main_input_name != "input_ids":
            raise ValueError(
                f"`name_or_path` {name_or_path!r} is no text model: {type(model).__name__} takes "
                f"{model.main_input_name}."
            )
        tokenizer = AutoTokenizer.from_pretrained(name_or_path, revision=revision)
        encoder = cls(model, tokenizer, batch_size, cache_size)
        return encoder if device is None else encoder.to(device)

    def to(self, device: torch.device | str) -> CaptionEncoder:
        """Move the model; returns the encoder."""
        self.model.to(device)
        return self

    @torch.no_grad()
    def __call__(self, captions: Sequence[str]) -> torch.Tensor:
        """Embeddings `(captions, hidden_size)` in float32 on the model's device, without gradient.

        Raises:
            TypeError: if `captions` is a single text.
        """
        if isinstance(captions, str):
            raise TypeError(f"`captions` must be a list of texts, not the text {captions!r}.")
        found = {"": torch.zeros(self.hidden_size)}
        new = []
        for caption in dict.fromkeys(captions):
            if caption in self._cache:
                self._cache.move_to_end(caption)
                found[caption] = self._cache[caption]
            elif caption:
                new.append(caption)
        for start in range(0, len(new), self.batch_size):
            together = new[start : start + self.batch_size]
            found.update(zip(together, self._encode(together).cpu(), strict=True))
        self._cache.update((caption, found[caption]) for caption in new)
        while len(self._cache) > self.cache_size:
            self._cache.popitem(last=False)
        if not captions:
            return torch.zeros(0, self.hidden_size, device=self.model.device)
        return torch.stack([found[caption] for caption in captions]).to(self.model.device)

    def _encode(self, captions: list[str]) -> torch.Tensor:
        longest = min(_MOST_TOKENS, self.tokenizer.model_max_length)
        tokens = self.tokenizer(
            captions,
            padding=len(captions) > 1,
            padding_side="right",  # where absolute positions do not see it
            truncation=True,
            max_length=longest,
            return_attention_mask=True,
            return_tensors="pt",
        ).to(self.model.device)
        with torch.autocast(self.model.device.type, enabled=False):
            output = self.model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
        mask = tokens.attention_mask[..., None].float()
        return (output.last_hidden_state.float() * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def _text_tower(model: Any) -> Any:
    if model.config.model_type == "clap":
        return model.text_model
    if getattr(model.config, "is_encoder_decoder", False) and hasattr(model, "decoder"):
        return model.get_encoder()
    return model
