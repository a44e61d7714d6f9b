"""The text prefix: cached text gives the velocity of the full forward pass."""

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module


def cached(model, batch):
    prefix = model.encode_text(batch["input_ids"], batch["attention_mask"])
    return model(batch["latents"], batch["timestep"], audio_mask=batch["audio_mask"], prefix=prefix).velocity


@torch.no_grad()
def test_cached_text_equals_the_full_forward(model, batch, attention_implementation):
    expected = model(**batch).velocity
    model.backbone.config._attn_implementation = attention_implementation
    torch.testing.assert_close(cached(model, batch), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(model(**batch).velocity, expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_without_padding_no_mask_is_needed(model, batch, attention_implementation):
    expected = model(batch["latents"], batch["timestep"], batch["input_ids"]).velocity
    model.backbone.config._attn_implementation = attention_implementation
    prefix = model.encode_text(batch["input_ids"])
    assert not prefix.is_padded
    velocity = model(batch["latents"], batch["timestep"], prefix=prefix).velocity
    torch.testing.assert_close(velocity, expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_step_leaves_the_prefix_as_it_was(model, batch):
    prefix = model.encode_text(batch["input_ids"], batch["attention_mask"])
    keys = [key.clone() for key in prefix.keys]
    first, second = (model(batch["latents"], batch["timestep"], prefix=prefix).velocity for _ in range(2))
    assert torch.equal(first, second)
    assert all(torch.equal(before, after) for before, after in zip(keys, prefix.keys, strict=True))


@torch.no_grad()
def test_selected_rows_are_those_rows(model, batch):
    prefix = model.encode_text(batch["input_ids"], batch["attention_mask"])
    rows = torch.tensor([2, 0, 2])
    selected = prefix.select(rows)
    assert (selected.batch_size, selected.num_tokens) == (3, 6)
    assert not prefix.select(torch.tensor([2])).is_padded and selected.is_padded
    velocity = model(batch["latents"], batch["timestep"], prefix=selected).velocity
    expected = model(
        batch["latents"],
        batch["timestep"],
        input_ids=batch["input_ids"][rows],
        attention_mask=batch["attention_mask"][rows],
    ).velocity
    torch.testing.assert_close(velocity, expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_gradients_reach_the_text_through_the_prefix(model, batch):
    with torch.enable_grad():
        cached(model, batch).square().sum().backward()
    through_prefix = model.get_input_embeddings().weight.grad.clone()
    model.zero_grad()
    with torch.enable_grad():
        model(**batch).velocity.square().sum().backward()
    torch.testing.assert_close(through_prefix, model.get_input_embeddings().weight.grad, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_encode_text_brings_an_offloaded_model_back(model, batch):
    class Recorder(ModelHook):
        calls = 0

        def pre_forward(self, module, *args, **kwargs):
            self.calls += 1
            return args, kwargs

    recorder = Recorder()
    add_hook_to_module(model, recorder)
    model.encode_text(batch["input_ids"])
    assert recorder.calls == 1


def test_prefix_must_have_the_rows_of_the_latents(model, batch):
    prefix = model.encode_text(batch["input_ids"]).select(torch.tensor([0]))
    with pytest.raises(ValueError, match="prefix.*3 rows.*1"):
        model(batch["latents"], batch["timestep"], prefix=prefix)
    with pytest.raises(ValueError, match="attention_mask"):
        model(batch["latents"][:1], batch["timestep"][:1], attention_mask=torch.ones(1, 6), prefix=prefix)
