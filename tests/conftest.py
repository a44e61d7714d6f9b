"""Small seeded models that several tests share."""

from __future__ import annotations

import os

import pytest

# Read by huggingface_hub at import: no test waits for a Hub that it must not talk to.
os.environ["HF_HUB_OFFLINE"] = "1"
# The models are tiny: threads would only wait for each other, most of all on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

PROMPTS = ["a dog barking", "rain falling on a roof", "sea waves", "a rooster crowing", "a clock ticking"]


@pytest.fixture(autouse=True)
def _seeded():
    import torch

    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tiny_tokenizer():
    """A word-level tokenizer over `PROMPTS`, padded on the left."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(special_tokens=["<pad>", "<unk>"])
    tokenizer.train_from_iterator(PROMPTS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", padding_side="left"
    )


@pytest.fixture
def tiny_autoencoder():
    """An `AutoencoderStar` at 8 kHz stereo with hop 16 and 4 latent channels, without context."""
    return _make_autoencoder()


@pytest.fixture
def tiny_generator(tiny_tokenizer):
    """A `StarGenModel` for the latents of `tiny_autoencoder`, two layers of width 32."""
    return _make_generator(len(tiny_tokenizer))


@pytest.fixture(scope="session")
def tiny_pipeline_folder(tiny_tokenizer, tmp_path_factory):
    """A saved `StarGenPipeline` of the tiny autoencoder, generator and tokenizer. Do not write into it."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    from star_hf import StarGenPipeline

    pipeline = StarGenPipeline(
        vae=_make_autoencoder(),
        model=_make_generator(len(tiny_tokenizer)),
        tokenizer=tiny_tokenizer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )
    folder = tmp_path_factory.mktemp("tiny") / "pipeline"
    pipeline.save_pretrained(folder)
    return folder


def _make_autoencoder():
    import torch

    from star_hf import AutoencoderStar

    torch.manual_seed(0)
    autoencoder = AutoencoderStar(
        encoder_hidden_size=4,
        downsampling_ratios=[2, 8],
        channel_multiples=[1, 2],
        decoder_channels=4,
        decoder_input_channels=4,
        sampling_rate=8000,
        context_type="none",
    )
    return autoencoder.eval()


def _make_generator(vocab_size: int):
    import torch
    from transformers import Qwen3Config

    from star_hf import StarGenConfig, StarGenModel

    torch.manual_seed(0)
    text_config = Qwen3Config(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
    )
    config = StarGenConfig(
        text_config=text_config, latent_channels=4, frame_rate=500.0, sampling_rate=8000, time_embedding_dim=8
    )
    model = StarGenModel(config).eval()
    # The flow head starts at zero; anything else makes the text matter.
    torch.nn.init.normal_(model.flow_head.weight, std=0.2)
    return model
