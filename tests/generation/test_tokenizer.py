"""The small tokenizer writes any text, and survives saving."""

import pytest
from transformers import AutoTokenizer

from star_hf.generation.tokenizer import END, train_tokenizer

CAPTIONS = ["a dog barking", "rain falling", "the bark of a dog", "a rooster crowing"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(CAPTIONS, vocab_size=300)


def test_frequent_words_are_single_tokens_wherever_they_stand(tokenizer):
    first = tokenizer("dog")["input_ids"]
    assert len(first) == 2
    assert first[0] in tokenizer("a DOG barking")["input_ids"]


def test_any_text_is_written_and_read_back(tokenizer):
    text = "ein hund bellt, 犬が吠える!"
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True).strip() == text


def test_empty_prompt_is_the_end_token(tokenizer):
    assert tokenizer("")["input_ids"] == [tokenizer.eos_token_id]
    assert tokenizer.eos_token == END


def test_it_is_reproducible_and_survives_saving(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    again = train_tokenizer(reversed(CAPTIONS * 2), vocab_size=300)
    batch = ["a rooster", "rain falling on a dog"]
    for other in (loaded, again):
        assert other(batch)["input_ids"] == tokenizer(batch)["input_ids"]
        assert (other.padding_side, other.pad_token_id) == ("left", tokenizer.pad_token_id)


def test_a_vocabulary_smaller_than_the_bytes_is_refused():
    with pytest.raises(ValueError, match="at least 258"):
        train_tokenizer(CAPTIONS, vocab_size=257)
