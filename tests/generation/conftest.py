"""A small StarGenModel with grouped-query attention, a small VAE of diffusers, and their pipeline."""

import pytest
import torch

LATENT_CHANNELS = 5


@pytest.fixture
def make_config():
    from star_hf.generation import StarGenConfig

    text_config = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
    }

    def make(**kwargs):
        return StarGenConfig(**{"text_config": text_config, "latent_channels": LATENT_CHANNELS, **kwargs})

    return make


@pytest.fixture
def config(make_config):
    return make_config()


def _flash_attention(
    module, query, key, value, attention_mask, scaling, dropout=0.0, is_causal=None, **kwargs
):
    """What flash kernels compute: padding as (batch, keys), causal or not, aligned at the end."""
    assert attention_mask is None or attention_mask.ndim == 2
    is_causal = module.is_causal if is_causal is None else is_causal
    queries, keys = query.shape[2], key.shape[2]
    mask = torch.ones(len(query), 1, queries, keys, dtype=torch.bool)
    if is_causal:
        mask = mask.tril(keys - queries)
    if attention_mask is not None:
        mask = mask & attention_mask[:, None, None, :]
    output = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, mask, scale=scaling, enable_gqa=True
    )
    return output.transpose(1, 2).contiguous(), None


@pytest.fixture(params=["sdpa", "eager", "flash"])
def attention_implementation(request):
    """Two of transformers, and a stand-in for flash attention that runs everywhere."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if request.param != "flash":
        return request.param
    ALL_ATTENTION_FUNCTIONS.register("flash_attention_stand_in", _flash_attention)
    return "flash_attention_stand_in"


@pytest.fixture
def model(config):
    """With weights large enough that text, time and audio all matter to the velocity."""
    from star_hf.generation import StarGenModel

    model = StarGenModel(config).eval()
    with torch.no_grad():
        for layer in model.backbone.layers:
            for linear in (*layer.self_attn.children(), *layer.mlp.children()):
                if isinstance(linear, torch.nn.Linear):
                    linear.weight.normal_(std=0.2)
        model.backbone.embed_tokens.weight.normal_()
        model.audio_embedding.latent_projection.weight.normal_(std=0.4)
        model.audio_embedding.time_embedding.linear_2.weight.normal_()
        model.flow_head.weight.normal_(std=0.1)
    return model


@pytest.fixture
def batch():
    """Ragged: an empty prompt, prompts of 3 and of 6 tokens; 7, 5 and 7 real frames."""
    text = torch.tensor([[0] * 6, [0, 0, 0, 1, 1, 1], [1] * 6], dtype=torch.bool)
    audio = torch.ones(3, 7, dtype=torch.bool)
    audio[1, 5:] = False
    return {
        "latents": torch.randn(3, 7, LATENT_CHANNELS),
        "timestep": torch.tensor([0.1, 0.5, 0.9]),
        "input_ids": torch.randint(1, 64, (3, 6)),
        "attention_mask": text,
        "audio_mask": audio,
    }


@pytest.fixture
def oobleck():
    """At 800 Hz, hop 8."""
    from diffusers import AutoencoderOobleck

    return AutoencoderOobleck(
        encoder_hidden_size=4,
        downsampling_ratios=[2, 4],
        channel_multiples=[1, 2],
        decoder_channels=4,
        decoder_input_channels=LATENT_CHANNELS,
        audio_channels=2,
        sampling_rate=800,
    ).eval()


@pytest.fixture
def pipe(oobleck, model, tiny_tokenizer):
    from diffusers import FlowMatchEulerDiscreteScheduler

    from star_hf.generation import StarGenPipeline

    pipe = StarGenPipeline(
        vae=oobleck, model=model, tokenizer=tiny_tokenizer, scheduler=FlowMatchEulerDiscreteScheduler()
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe
