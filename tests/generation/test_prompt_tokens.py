"""Prompts to left-padded tokens."""

import logging

import torch

from star_hf.generation import tokenize_prompts


def test_padding_is_on_the_left_and_masked(tiny_tokenizer):
    tiny_tokenizer.padding_side = "right"
    ids, mask = tokenize_prompts(tiny_tokenizer, ["sea waves", "a dog barking", ""], 16)
    tiny_tokenizer.padding_side = "left"
    assert mask.tolist() == [[False, True, True], [True] * 3, [False] * 3]
    assert tiny_tokenizer.decode(ids[0][mask[0]]) == "sea waves"
    assert (ids[~mask] == tiny_tokenizer.pad_token_id).all()


def test_only_empty_prompts_are_one_column_of_padding(tiny_tokenizer):
    ids, mask = tokenize_prompts(tiny_tokenizer, ["", ""], 16)
    assert ids.shape == mask.shape == (2, 1) and not mask.any() and ids.dtype == torch.long


def test_long_prompts_are_cut_with_a_warning(tiny_tokenizer, caplog):
    with caplog.at_level(logging.WARNING):
        ids, mask = tokenize_prompts(tiny_tokenizer, ["sea waves", "a dog barking a dog barking"], 4)
    assert ids.shape == (2, 4) and mask[1].all()
    assert "6 tokens is cut to 4" in caplog.text and len(caplog.records) == 1
