"""LoRA on the backbone: what trains, what an adapter folder brings back, and what merging gives."""

import copy

import pytest
import torch
from safetensors.torch import load_file, save_file

from star_hf.generation import (
    StarGenModel,
    add_lora,
    has_lora,
    load_adapter_folder,
    merge_lora,
    save_adapter_folder,
)

peft = pytest.importorskip("peft")


def velocity(model, batch):
    with torch.no_grad():
        return model.eval()(**batch).velocity[batch["audio_mask"]]


@pytest.fixture
def adapted(model):
    """A copy of `model` whose adapter, head and projections have all been moved away from their start."""
    adapted = copy.deepcopy(model)
    add_lora(adapted, rank=3, alpha=5.0)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return adapted


@pytest.fixture
def folder(adapted, tmp_path):
    save_adapter_folder(adapted, tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.fixture
def qwen3(model, tmp_path):
    model.backbone.save_pretrained(tmp_path / "qwen3")
    return tmp_path / "qwen3"


def test_only_adapter_head_and_projections_train(model):
    add_lora(model, rank=2)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    around = {name for name, _ in model.named_parameters() if not name.startswith("backbone.")}
    assert around < trained
    assert all("lora_" in name for name in trained - around)
    assert len(trained - around) == 3 * 7 * 2  # layers, linear layers in each, A and B


def test_a_new_adapter_changes_nothing(model, batch):
    expected = velocity(model, batch)
    add_lora(model, rank=2)
    assert torch.equal(velocity(model, batch), expected)


def test_merged_weights_are_the_equation(model, adapted):
    layer = adapted.backbone.layers[1].self_attn.v_proj
    lora_a, lora_b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    expected = model.backbone.layers[1].self_attn.v_proj.weight + 5.0 / 3 * lora_b @ lora_a
    merged = merge_lora(adapted)
    torch.testing.assert_close(merged.backbone.layers[1].self_attn.v_proj.weight, expected)


def test_merging_leaves_a_plain_model(model, adapted, batch, tmp_path):
    expected = velocity(adapted, batch)
    merged = merge_lora(adapted)
    assert not has_lora(merged) and set(merged.state_dict()) == set(model.state_dict())
    torch.testing.assert_close(velocity(merged, batch), expected, rtol=0, atol=1e-6)
    merged.save_pretrained(tmp_path / "merged")
    loaded = StarGenModel.from_pretrained(tmp_path / "merged")
    assert torch.equal(velocity(loaded, batch), velocity(merged, batch))


@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize("base_kind", ["qwen3", "star_gen", "object"])
def test_the_folder_brings_the_model_back(model, qwen3, adapted, folder, batch, base_kind, merge, tmp_path):
    if base_kind == "star_gen":
        model.save_pretrained(tmp_path / "base")
    base = {"qwen3": qwen3, "star_gen": tmp_path / "base", "object": model}[base_kind]
    loaded = load_adapter_folder(folder, base, merge=merge)
    assert has_lora(loaded) is not merge and not loaded.training
    torch.testing.assert_close(velocity(loaded, batch), velocity(adapted, batch), rtol=0, atol=1e-6)


def test_the_folder_is_small_and_names_its_base(adapted, qwen3, batch, tmp_path):
    adapted.config.latents_mean, adapted.config.latents_std = [0.5] * 5, [2.0] * 5
    save_adapter_folder(adapted, tmp_path / "adapter", base=str(qwen3))
    loaded = load_adapter_folder(tmp_path / "adapter")
    torch.testing.assert_close(velocity(loaded, batch), velocity(adapted, batch), rtol=0, atol=1e-6)
    assert loaded.config.latents_std == [2.0] * 5 and loaded.config.latents_mean == [0.5] * 5
    stored = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert sum(tensor.numel() for tensor in stored.values()) == sum(
        parameter.numel() for name, parameter in adapted.named_parameters() if "lora_" in name
    )


def test_peft_itself_reads_the_adapter(adapted, qwen3, folder, batch):
    from transformers import Qwen3Model

    wrapped = peft.PeftModel.from_pretrained(Qwen3Model.from_pretrained(qwen3), folder)
    ids = batch["input_ids"]
    with torch.no_grad():
        hidden = wrapped.eval()(input_ids=ids).last_hidden_state
        torch.testing.assert_close(hidden, adapted.eval().backbone(input_ids=ids).last_hidden_state)


def test_a_folder_without_an_adapter_holds_the_layers_around_the_backbone(model, qwen3, batch, tmp_path):
    trained = copy.deepcopy(model)
    torch.nn.init.normal_(trained.flow_head.weight)
    save_adapter_folder(trained, tmp_path / "heads")
    loaded = load_adapter_folder(tmp_path / "heads", qwen3)
    assert not has_lora(loaded)
    torch.testing.assert_close(velocity(loaded, batch), velocity(trained, batch), rtol=0, atol=1e-6)


def test_float32_adapters_train_on_a_bfloat16_backbone(model, batch):
    model.backbone.to(torch.bfloat16)
    add_lora(model, rank=2)
    frozen = {name: p.clone() for name, p in model.named_parameters() if not p.requires_grad}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert {parameter.dtype for parameter in trained} == {torch.float32}
    output = model.train()(**batch).velocity
    assert output.dtype == torch.float32
    output[batch["audio_mask"]].square().mean().backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    # B is zero at first, so that A has no gradient yet
    assert all(gradient.any() for name, gradient in gradients.items() if "lora_A" not in name)
    torch.optim.SGD(trained, lr=0.1).step()
    assert all(torch.equal(p, frozen[name]) for name, p in model.named_parameters() if name in frozen)


def test_folders_that_do_not_fit_are_refused(model, make_config, folder, tmp_path):
    with pytest.raises(ValueError, match="is no adapter folder"):
        load_adapter_folder(tmp_path)
    with pytest.raises(ValueError, match="does not name the model it adapts"):
        load_adapter_folder(folder)
    other = StarGenModel(make_config(time_embedding_dim=8))
    with pytest.raises(ValueError, match="(?s)does not fit the base: .*time_embedding"):
        load_adapter_folder(folder, other)
    adapter = load_file(folder / "adapter_model.safetensors")
    name = next(iter(adapter))
    save_file({**adapter, name: adapter[name][:1]}, folder / "adapter_model.safetensors")
    with pytest.raises(ValueError, match="does not fit the base: layers.0"):
        load_adapter_folder(folder, model)


@pytest.mark.parametrize("options", [{"rank": 0}, {"dropout": 1.0}, {"target_modules": ["nothing"]}])
def test_options_out_of_range_are_refused(model, options):
    with pytest.raises(ValueError, match="rank|dropout|nothing"):
        add_lora(model, **options)
