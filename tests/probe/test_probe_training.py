"""Training: a small budget is the beginning of a large one, and noise belongs to clips and nothing else."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
from probe_setup import LinearCodec

from star_hf.data import EndlessShuffle
from star_hf.probe import GENERATORS
from star_hf.probe.latents import encode_clips
from star_hf.probe.networks import Captions, make_network
from star_hf.probe.sampling import generate
from star_hf.probe.trainer import FlowBatches, _training_batch, train, validate

CPU = torch.device("cpu")


@pytest.fixture
def setup(clips, tmp_path):
    def make(settings, codec=None, generator="star_gen", seed=0):
        encoded = encode_clips(codec or LinearCodec(), clips, tmp_path)
        captions = Captions(clips, settings.vocab_size)
        network = make_network(
            generator,
            encoded.channels,
            len(captions.tokenizer),
            settings,
            max(encoded.num_frames),
            encoded.frame_rate,
            seed,
        )
        return network, encoded, clips, captions, settings

    return make


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("generator", GENERATORS)
def test_a_small_budget_is_the_beginning_of_a_large_one(setup, make_settings, generator, precision):
    """Bitwise, although the longer run is judged on the way."""
    parts = setup(make_settings(budgets=(3, 5), precision=precision), generator=generator)
    stages, losses = [], []
    for trained in train(*parts, 0, CPU):
        losses.append(validate(trained.network, *parts[1:], CPU).flow_loss)
        generate(trained.network, *parts[1:], 0, CPU)
        torch.rand(7)  # whoever draws in between changes nothing
        stages.append(trained)
    assert [trained.budget for trained in stages] == [3, 5]
    parts = setup(make_settings(budgets=(3,), precision=precision), generator=generator)
    (short,) = train(*parts, 0, CPU)
    first = stages[0].network.state_dict()
    assert all(torch.equal(first[key], value) for key, value in short.network.state_dict().items())
    assert validate(short.network, *parts[1:], CPU).flow_loss == losses[0] != losses[1]


def test_the_random_numbers_do_not_depend_on_the_autoencoder(setup, settings):
    """Two autoencoders of one shape: clips, captions, times, noise and posterior noise are the same."""
    batches = []
    for codec in (LinearCodec(seed=0), LinearCodec(seed=1, kind="sigma")):
        _, encoded, clips, *_ = setup(settings, codec)
        keys = islice(EndlessShuffle(encoded.num_training, 3), 4)
        batches.append(_training_batch(FlowBatches(encoded, None, CPU), keys, clips, settings, 3))
    first, second = batches
    assert first.texts == second.texts
    assert torch.equal(first.t, second.t) and torch.equal(first.noise, second.noise)
    assert not torch.allclose(first.latents, second.latents)


def test_every_clip_comes_once_before_one_comes_again(setup, make_settings, monkeypatch):
    from star_hf.probe import trainer

    seen = []
    original = trainer._training_batch

    def record(batches, keys, *rest):
        keys = list(keys)
        seen.extend(keys)
        return original(batches, iter(keys), *rest)

    monkeypatch.setattr(trainer, "_training_batch", record)
    parts = setup(make_settings(budgets=(4,)))
    list(train(*parts, 0, CPU))
    number = parts[1].num_training
    assert len(seen) == 16 and sorted(index for _, index in seen[:number]) == list(range(number))


def test_the_validation_does_not_depend_on_the_batches(setup, make_settings):
    parts = setup(make_settings(batch_size=3))
    whole = setup(make_settings(batch_size=50))
    first, second = (validate(network, *rest, CPU) for network, *rest in (parts, whole))
    assert first.flow_loss == pytest.approx(second.flow_loss, rel=1e-5)
    assert first.unpredicted_rate == pytest.approx(second.unpredicted_rate, rel=1e-4)


def test_the_best_predictor_of_each_number_has_a_relative_loss_of_one(setup, make_settings):
    """In place of a network, at all times of the path alike."""

    class Marginal(torch.nn.Module):
        window = None

        def forward(self, latents, t, text, frames):
            return ((2 * t - 1) / (t.square() + (1 - t).square()))[:, None, None] * latents

    _, *parts = setup(make_settings(validation_draws=64), LinearCodec(std=0.05))
    report = validate(Marginal(), *parts, CPU)
    # the held-out clips are few: their variance is not that of the training clips
    assert report.relative_flow_loss == pytest.approx(1, rel=0.35)
    assert report.relative_flow_loss == pytest.approx(sum(report.relative_flow_loss_by_time) / 4, rel=0.1)


def test_a_generator_learns_what_there_is_to_learn(setup, make_settings):
    """Two steps a budget apart: after 60 the loss is well below that of the first."""
    settings = make_settings(budgets=(1, 60), learning_rate=5e-3, batch_size=8, validation_draws=8)
    parts = setup(settings)
    first, last = (validate(trained.network, *parts[1:], CPU) for trained in train(*parts, 0, CPU))
    assert last.relative_flow_loss < 0.9 * first.relative_flow_loss
    assert last.unpredicted_rate < first.unpredicted_rate


def test_a_loss_that_is_not_finite_is_refused(setup, make_settings):
    network, *parts = setup(make_settings())
    with torch.no_grad():
        network.model.flow_head.bias.fill_(torch.nan)
    with pytest.raises(ValueError, match="the loss is nan at step 1: try a smaller `learning_rate`"):
        next(train(network, *parts, 0, CPU))


@pytest.mark.parametrize("generator", GENERATORS)
def test_sampling_follows_the_velocity_to_the_data(setup, make_settings, generator, monkeypatch):
    """With the exact velocity to known latents Euler's method ends there, whatever the noise and guidance."""
    network, *parts = setup(make_settings(sampling_steps=5, num_generated=5), generator=generator)
    encoded = parts[0]
    width = network.window or max(encoded.num_frames)
    goal = torch.randn(width, encoded.channels)

    def velocity(latents, t, text, frames):
        return (goal[: latents.shape[1]] - latents) / (1 - t)[:, None, None]

    monkeypatch.setattr(network, "forward", velocity)
    generated = generate(network, *parts, 0, CPU)
    prompts = parts[1].prompts(5)
    assert len(generated) == 5
    for latents, clip in zip(generated, prompts, strict=True):
        length = encoded.num_frames[encoded.num_training + clip]
        assert torch.allclose(latents, goal[:length], atol=1e-5)


def test_generated_clips_belong_to_their_seed_and_number(setup, make_settings):
    network, *parts = setup(make_settings(num_generated=6))
    first = generate(network, *parts, 0, CPU)
    again = generate(network, *parts[:-1], make_settings(num_generated=6, batch_size=2), 0, CPU)
    other = generate(network, *parts, 1, CPU)
    for one, same, different in zip(first, again, other, strict=True):
        assert torch.allclose(one, same, atol=1e-4)
        assert not torch.allclose(one, different, atol=1e-2)


def test_guidance_moves_along_the_difference(setup, make_settings, monkeypatch):
    """A velocity of 1 with the caption and 0 without it moves the latents by the scale."""
    moved = {}
    for scale in (0.0, 1.0, 3.0):
        network, *parts = setup(make_settings(guidance_scale=scale), generator="dit")
        monkeypatch.setattr(
            network,
            "forward",
            lambda latents, t, text, frames: (
                (text[1].sum(dim=1) > 1)[:, None, None].float() * torch.ones_like(latents)
            ),
        )
        moved[scale] = generate(network, *parts, 0, CPU)[0]
    assert torch.allclose(moved[1.0] - moved[0.0], torch.ones(1), atol=1e-5)
    assert torch.allclose(moved[3.0] - moved[0.0], torch.full((1,), 3.0), atol=1e-5)
