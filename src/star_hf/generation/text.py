"""Prompts to tokens, the same way in training and in generation."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)


def tokenize_prompts(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], max_tokens: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and the mask of real tokens, both `(batch, tokens)`, padded on the left.

    There is always at least one column: a batch of empty prompts is one column of padding. Prompts of more
    than `max_tokens` are cut and a warning says so.
    """
    rows = tokenizer(list(prompts))["input_ids"]
    for prompt, row in zip(prompts, rows, strict=True):
        if len(row) > max_tokens:
            logger.warning("a prompt of %d tokens is cut to %d: %.60r", len(row), max_tokens, prompt)
    if any(len(row) > max_tokens for row in rows):
        # Tokenized again instead of sliced: a tokenizer may close the sequence with a token of its own.
        rows = tokenizer(list(prompts), truncation=True, max_length=max_tokens)["input_ids"]
    # Padding is never attended to, so that any id of the vocabulary serves where the tokenizer names none.
    padding = tokenizer.pad_token_id or 0
    width = max(1, *(len(row) for row in rows))
    input_ids = torch.tensor([[padding] * (width - len(row)) + list(row) for row in rows])
    attention_mask = torch.tensor([[False] * (width - len(row)) + [True] * len(row) for row in rows])
    return input_ids, attention_mask
