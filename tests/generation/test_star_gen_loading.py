"""StarGenModel checkpoints: round trips, Qwen3 backbones, and what is refused."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, LlamaConfig, LlamaModel, Qwen3ForCausalLM, Qwen3Model

from star_hf.generation import StarGenModel


def assert_equal_weights(first, second):
    first, second = first.state_dict(), second.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("loader", [StarGenModel, AutoModel])
def test_round_trip(model, batch, tmp_path, loader):
    model.save_pretrained(tmp_path)
    loaded = loader.from_pretrained(tmp_path)
    assert type(loaded) is StarGenModel and not loaded.training
    assert_equal_weights(loaded, model)
    with torch.no_grad():
        assert torch.equal(loaded(**batch).velocity, model(**batch).velocity)


def test_round_trip_in_shards_and_half_precision(model, tmp_path):
    model.bfloat16().save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert_equal_weights(StarGenModel.from_pretrained(tmp_path, dtype="auto"), model)


@pytest.mark.parametrize(
    ("kind", "tied"), [(Qwen3Model, False), (Qwen3ForCausalLM, False), (Qwen3ForCausalLM, True)]
)
def test_from_backbone_takes_the_pretrained_weights(config, tmp_path, kind, tied):
    config.text_config.tie_word_embeddings = tied
    pretrained = kind(config.text_config)
    pretrained.save_pretrained(tmp_path / "qwen3")
    model = StarGenModel.from_backbone(
        tmp_path / "qwen3", latent_channels=6, config_kwargs={"frame_rate": 21.5}, attn_implementation="eager"
    )
    assert_equal_weights(model.backbone, getattr(pretrained, "model", pretrained))
    assert (model.config.latent_channels, model.config.frame_rate) == (6, 21.5)
    assert model.backbone.config._attn_implementation == "eager"
    assert model.audio_embedding.latent_projection.weight.any() and model.flow_head.weight.any()
    model.save_pretrained(tmp_path / "star_gen")
    assert_equal_weights(StarGenModel.from_pretrained(tmp_path / "star_gen"), model)


def test_from_backbone_in_half_precision(config, tmp_path):
    Qwen3Model(config.text_config).save_pretrained(tmp_path)
    model = StarGenModel.from_backbone(tmp_path, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def edit_weights(folder, edit):
    path = folder / "model.safetensors"
    weights = load_file(path)
    edit(weights)
    save_file(weights, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda w: w.pop("flow_head.bias"), "missing keys: flow_head.bias"),
        (lambda w: w.update(extra=torch.zeros(1)), "unexpected keys: extra"),
        (lambda w: w.update({"flow_head.bias": torch.zeros(9)}), r"flow_head.bias \(9,\) instead of \(5,\)"),
    ],
)
def test_keys_that_do_not_fit_are_named(model, tmp_path, edit, message):
    model.save_pretrained(tmp_path)
    edit_weights(tmp_path, edit)
    with pytest.raises(ValueError, match=message):
        StarGenModel.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda w: w.pop("norm.weight"), "missing keys: norm.weight"),
        (lambda w: w.update({"layers.9.extra": torch.zeros(1)}), "unexpected keys: layers.9.extra"),
    ],
)
def test_backbone_keys_that_do_not_fit_are_named(config, tmp_path, edit, message):
    Qwen3Model(config.text_config).save_pretrained(tmp_path)
    edit_weights(tmp_path, edit)
    with pytest.raises(ValueError, match=message):
        StarGenModel.from_backbone(tmp_path)


def test_other_classes_are_refused(model, tmp_path):
    Qwen3Model(model.config.text_config).save_pretrained(tmp_path / "qwen3")
    with pytest.raises(ValueError, match="'qwen3', not a StarGenModel"):
        StarGenModel.from_pretrained(tmp_path / "qwen3")
    llama = LlamaConfig(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
    )
    LlamaModel(llama).save_pretrained(tmp_path / "llama")
    with pytest.raises(ValueError, match="'llama', not 'qwen3'"):
        StarGenModel.from_backbone(tmp_path / "llama")


def test_pickles_are_refused(model, tmp_path):
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    model.config.save_pretrained(tmp_path)
    with pytest.raises(OSError, match="safetensors"):
        StarGenModel.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="never pickled"):
        StarGenModel.from_pretrained(tmp_path, use_safetensors=False)


def test_folder_without_a_checkpoint(tmp_path):
    with pytest.raises(OSError, match="config.json"):
        StarGenModel.from_pretrained(tmp_path)


def test_older_checkpoints_may_lack_values_that_have_defaults(model, make_config, tmp_path):
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    del saved["max_audio_length_in_s"]
    (tmp_path / "config.json").write_text(json.dumps(saved))
    loaded = StarGenModel.from_pretrained(tmp_path)
    assert loaded.config.max_audio_length_in_s == make_config().max_audio_length_in_s
