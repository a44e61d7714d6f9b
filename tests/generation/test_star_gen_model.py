"""StarGenModel: who sees whom, against references written out by hand."""

import pytest
import torch

from star_hf.generation import StarGenModel


def reference_velocity(model, latents, timestep, input_ids):
    """One row without padding: text and audio in one sequence, the mask written element by element."""
    tokens, frames = len(input_ids), len(latents)
    text = model.get_input_embeddings()(input_ids[None])
    audio = model.audio_embedding(latents[None], timestep[None], torch.float32)
    mask = torch.zeros(1, 1, tokens + frames, tokens + frames, dtype=torch.bool)
    for query in range(tokens + frames):
        for key in range(tokens + frames):
            mask[..., query, key] = key <= query if query < tokens else True
    hidden_states = model.backbone(
        inputs_embeds=torch.cat([text, audio], dim=1),
        attention_mask={"full_attention": mask},
        position_ids=torch.arange(tokens + frames)[None],
    ).last_hidden_state
    return model.flow_head(hidden_states[:, tokens:])[0]


@torch.no_grad()
def test_ragged_batch_equals_one_row_at_a_time_without_padding(model, batch, attention_implementation):
    expected = [
        reference_velocity(
            model,
            batch["latents"][row][batch["audio_mask"][row]],
            batch["timestep"][row],
            batch["input_ids"][row][batch["attention_mask"][row]],
        )
        for row in range(3)
    ]
    model.backbone.config._attn_implementation = attention_implementation
    velocity = model(**batch).velocity
    for row in range(3):
        torch.testing.assert_close(velocity[row][batch["audio_mask"][row]], expected[row], atol=1e-5, rtol=0)
    assert velocity.isfinite().all()


@torch.no_grad()
def test_without_masks_everything_is_real(model, batch):
    ones = {name: torch.ones_like(batch[name]) for name in ("attention_mask", "audio_mask")}
    without = {name: batch[name] for name in ("latents", "timestep", "input_ids")}
    torch.testing.assert_close(model(**without).velocity, model(**{**batch, **ones}).velocity)


def text_hidden_states(model, batch):
    """The text's hidden states behind every layer of a forward pass over text and audio together."""
    states = []
    tokens = batch["input_ids"].shape[1]
    hooks = [
        layer.register_forward_hook(lambda _, __, output: states.append(output[:, :tokens]))
        for layer in model.backbone.layers
    ]
    model(**batch)
    for hook in hooks:
        hook.remove()
    return torch.stack(states)[:, batch["attention_mask"]]


@torch.no_grad()
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_text_does_not_see_the_audio(model, batch, implementation):
    model.set_attn_implementation(implementation)
    states = text_hidden_states(model, batch)
    other = {**batch, "latents": 10 * torch.randn_like(batch["latents"]), "timestep": torch.rand(3)}
    torch.testing.assert_close(text_hidden_states(model, other), states, atol=1e-6, rtol=0)
    changed = {**batch, "input_ids": batch["input_ids"].flip(1)}
    assert (text_hidden_states(model, changed) - states).abs().max() > 1e-2


@torch.no_grad()
def test_text_is_causal(model, batch):
    states = model.encode_text(batch["input_ids"]).keys[-1]
    later = batch["input_ids"].clone()
    later[:, 3:] = later[:, 3:].flip(1)
    changed = model.encode_text(later).keys[-1]
    torch.testing.assert_close(changed[:, :, :3], states[:, :, :3], atol=1e-6, rtol=0)
    assert (changed[:, :, 3:] - states[:, :, 3:]).abs().max() > 1e-2


@torch.no_grad()
@pytest.mark.parametrize("argument", ["input_ids", "timestep", "latents"])
def test_every_frame_depends_on_text_time_and_the_last_frame(model, batch, argument):
    changed = batch[argument].clone()
    if argument == "latents":
        changed[:, 4] += 3.0
        others = [0, 1, 2, 3]
    else:
        changed = changed.flip(-1)
        others = [0, 1, 2, 3, 4]
    difference = model(**{**batch, argument: changed}).velocity - model(**batch).velocity
    assert (difference[2, others].abs().amax(dim=-1) > 1e-3).all()


@torch.no_grad()
def test_audio_tokens_start_as_large_as_text_tokens(config):
    model = StarGenModel(config)
    tokens = model.audio_embedding.latent_projection(torch.randn(64, 20, config.latent_channels))
    text = model.get_input_embeddings().weight
    assert 0.7 < tokens.std() / text.std() < 1.4
    assert model.flow_head.weight.any() and not model.flow_head.bias.any()


@torch.no_grad()
def test_close_times_have_different_embeddings_in_half_precision(model):
    model = model.bfloat16()
    tokens = model.audio_embedding(torch.zeros(2, 1, 5), torch.tensor([0.5, 0.501]), torch.bfloat16)
    assert (tokens[0] - tokens[1]).norm() / tokens[0].norm() > 0.05


@torch.no_grad()
def test_bfloat16_stays_close_to_float32(model, batch):
    expected = model(**batch).velocity
    velocity = model.bfloat16()(**batch).velocity
    assert velocity.dtype == torch.bfloat16
    assert (velocity.float() - expected).norm() / expected.norm() < 0.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latents": torch.zeros(3, 7, 4)}, r"latents.*\(batch, frames, 5\).*\(3, 7, 4\)"),
        ({"latents": torch.zeros(3, 0, 5)}, "latents.*at least one frame"),
        ({"timestep": torch.zeros(2)}, r"timestep.*\(3,\).*\(2,\)"),
        ({"input_ids": torch.ones(3, 0, dtype=torch.long)}, "input_ids.*at least one token"),
        ({"input_ids": torch.ones(2, 6).long(), "attention_mask": None}, "input_ids.*3 rows.*2"),
        ({"input_ids": None, "attention_mask": None}, "exactly one of `input_ids` and `prefix`"),
        ({"attention_mask": torch.ones(3, 5)}, "attention_mask"),
        ({"audio_mask": torch.ones(3, 6)}, "audio_mask"),
    ],
)
def test_shapes_that_do_not_fit_are_named(model, batch, changes, message):
    with pytest.raises(ValueError, match=message):
        model(**{**batch, **changes})
