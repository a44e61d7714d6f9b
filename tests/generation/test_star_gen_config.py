"""StarGenConfig: round trip and refusals."""

import json

import pytest
from transformers import AutoConfig, Qwen3Config

from star_hf.generation import StarGenConfig


def test_round_trip_keeps_the_backbone(make_config, tmp_path):
    config = make_config(latents_mean=[0.5] * 5, latents_std=[2.0] * 5, frame_rate=21.5, sampling_rate=44100)
    config.save_pretrained(tmp_path / "first")
    loaded = AutoConfig.from_pretrained(tmp_path / "first")
    assert type(loaded) is StarGenConfig and type(loaded.text_config) is Qwen3Config
    assert loaded.latents_std == [2.0] * 5 and loaded.text_config.num_key_value_heads == 2
    loaded.save_pretrained(tmp_path / "second")
    first, second = (
        json.loads((tmp_path / name / "config.json").read_text()) for name in ("first", "second")
    )
    assert first == second


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"latent_channels": 0}, "latent_channels.*at least 1.*0"),
        ({"time_embedding_dim": 7}, "time_embedding_dim.*even.*7"),
        ({"max_audio_length_in_s": float("nan")}, "max_audio_length_in_s.*positive.*nan"),
        ({"latents_mean": [0.0] * 4, "latents_std": [1.0] * 4}, "latents_mean.*5.*4"),
        ({"latents_mean": [0.0] * 5}, "together"),
        ({"latents_mean": [0.0] * 5, "latents_std": [1.0, 1.0, 0.0, 1.0, 1.0]}, "latents_std.*positive.*0.0"),
        ({"text_config": AutoConfig.for_model("llama")}, "text_config.*Qwen3Config.*LlamaConfig"),
        ({"text_config": {"use_sliding_window": True, "max_window_layers": 0}}, "use_sliding_window"),
    ],
)
def test_values_out_of_range_are_named(make_config, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_config(**arguments)


@pytest.mark.parametrize(
    ("content", "message"), [({"model_type": "qwen3"}, "qwen3"), ({"hidden_size": 8}, "without a")]
)
def test_configuration_of_another_class_is_refused(tmp_path, content, message):
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        StarGenConfig.from_pretrained(tmp_path)
