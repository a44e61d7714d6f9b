"""StarGenModel in training: it learns, also with checkpointing and with adapters."""

import pytest
import torch

from star_hf.flow import flow_matching_loss, interpolate, sample_times, velocity_target
from star_hf.generation import StarGenModel, add_lora


def test_gradient_checkpointing_gives_the_same_gradients(model, batch):
    model.train()

    def gradients():
        model.zero_grad()
        model(**batch).velocity[batch["audio_mask"]].square().mean().backward()
        return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}

    expected = gradients()
    model.gradient_checkpointing_enable()
    assert all(layer.gradient_checkpointing for layer in model.backbone.layers)
    torch.testing.assert_close(gradients(), expected)


def test_prefix_under_gradient_checkpointing_is_refused(model, batch):
    prefix = model.encode_text(batch["input_ids"])
    model.train().gradient_checkpointing_enable()
    with pytest.raises(ValueError, match="gradient checkpointing"):
        model(batch["latents"], batch["timestep"], prefix=prefix)
    model.eval()
    model(batch["latents"], batch["timestep"], prefix=prefix)


@pytest.mark.slow
@pytest.mark.parametrize("with_lora", [False, True])
def test_training_is_one_graph_for_all_lengths(model, with_lora):
    """What torch.compile traces: no break in between, and not another graph for every length."""
    if with_lora:
        pytest.importorskip("peft")
        add_lora(model, rank=2)
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(model.train(), backend=count, fullgraph=True)
    for tokens, frames in ((4, 7), (6, 12), (9, 5), (5, 20)):
        audio_mask = torch.ones(3, frames, dtype=torch.bool)
        audio_mask[1, frames - 2 :] = False
        arguments = {
            "latents": torch.randn(3, frames, 5),
            "timestep": torch.rand(3),
            "input_ids": torch.randint(1, 64, (3, tokens)),
            "attention_mask": torch.ones(3, tokens, dtype=torch.bool),
            "audio_mask": audio_mask,
        }
        torch.testing.assert_close(compiled(**arguments).velocity, model(**arguments).velocity)
    assert len(graphs) <= 2  # of the first lengths, and of all others
    torch._dynamo.reset()


def test_layers_around_a_backbone_of_another_precision(model, batch):
    model.eval()
    expected = model(**batch).velocity
    model.backbone.to(torch.bfloat16)
    velocity = model(**batch).velocity
    assert velocity.dtype == torch.float32
    prefix = model.encode_text(batch["input_ids"], batch["attention_mask"])
    cached = model(
        batch["latents"], batch["timestep"], prefix=prefix, audio_mask=batch["audio_mask"]
    ).velocity
    mask = batch["audio_mask"]
    scale = expected[mask].abs().mean()
    assert (velocity - expected)[mask].abs().mean() < 0.05 * scale
    assert (cached - velocity)[mask].abs().mean() < 0.05 * scale


def test_every_parameter_learns(model, batch):
    model.train()
    model(**batch).velocity[batch["audio_mask"]].square().mean().backward()
    without = [name for name, parameter in model.named_parameters() if not parameter.grad.any()]
    assert without == []


def test_lora_adapters_attach_to_the_backbone_and_train(model, batch):
    from peft import LoraConfig, get_peft_model

    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"])).train()
    optimizer = torch.optim.SGD(
        [parameter for parameter in adapted.parameters() if parameter.requires_grad], lr=0.5
    )
    target = torch.randn_like(batch["latents"])
    losses = []
    for _ in range(8):
        loss = flow_matching_loss(adapted(**batch).velocity, target, batch["audio_mask"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    adapted.eval()
    with torch.no_grad():
        prefix = adapted.encode_text(batch["input_ids"], batch["attention_mask"])
        velocity = adapted(batch["latents"], batch["timestep"], prefix=prefix).velocity
        expected = adapted(**{**batch, "audio_mask": None}).velocity
        torch.testing.assert_close(velocity, expected, atol=1e-5, rtol=0)
        base = adapted.unload()
        assert (base(**{**batch, "audio_mask": None}).velocity - expected).abs().max() > 1e-3
    assert all(torch.equal(before[name], parameter) for name, parameter in base.named_parameters())


def test_learns_which_text_means_which_latents(make_config):
    """Two captions, two points: Euler from any noise must arrive at the point that the caption names."""
    generator = torch.Generator().manual_seed(0)
    model = StarGenModel(make_config(time_embedding_dim=32))
    points = torch.randn(2, 3, 5, generator=generator)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(120):
        caption = torch.randint(0, 2, (16,), generator=generator)
        latents, t = points[caption], sample_times(16, generator=generator)
        noise = torch.randn(latents.shape, generator=generator)
        velocity = model(interpolate(noise, latents, t), t, caption[:, None] + 1).velocity
        loss = flow_matching_loss(velocity, velocity_target(noise, latents))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    caption = torch.tensor([0, 1] * 8)
    with torch.no_grad():
        prefix = model.encode_text(caption[:, None] + 1)
        z = torch.randn(16, 3, 5, generator=generator)
        for step in range(20):
            z = z + model(z, torch.full((16,), step / 20), prefix=prefix).velocity / 20
    assert (z - points[caption]).square().mean() < 0.05
    assert (z - points[1 - caption]).square().mean() > 1.0
