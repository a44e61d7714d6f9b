"""Both generators: one beginning for every autoencoder, and one interface that padding does not change."""

from __future__ import annotations

import pytest
import torch
from probe_setup import RATE

from star_hf.probe import GENERATORS, ProbeSettings
from star_hf.probe.networks import Captions, DiTNetwork, make_network, num_parameters
from star_hf.probe.trainer import pad_latents

FRAME_RATE = RATE / 400


@pytest.fixture
def captions(clips, settings):
    return Captions(clips, settings.vocab_size)


@pytest.fixture
def make(captions, settings):
    def network(name, channels=6, window=20, seed=0):
        made = make_network(
            name, channels, len(captions.tokenizer), settings, window, FRAME_RATE, seed
        ).eval()
        # heads that begin near 0 would hide what does not reach them
        for key, weight in made.named_parameters():
            if "flow_head" in key or "proj_out" in key or "postprocess" in key:
                torch.nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(1))
        return made

    return network


@pytest.mark.parametrize("name", GENERATORS)
def test_only_the_projections_begin_differently(name, make):
    few, many = (make(name, channels).state_dict() for channels in (3, 7))
    assert few.keys() == many.keys()
    own = {key for key in few if few[key].shape != many[key].shape}
    hints = ("latent_projection", "flow_head", "proj_in", "proj_out", "process_conv")
    assert own and all(any(hint in key for hint in hints) for key in own)
    for key in few.keys() - own:
        if not any(hint in key for hint in ("flow_head", "proj_out", "postprocess")):
            assert torch.equal(few[key], many[key]), key
    # a few matrices stand for all: another seed is another beginning
    other = make(name, 3, seed=1).state_dict()
    assert sum(not torch.equal(few[key], other[key]) for key in few) > len(few) / 3


def test_the_random_state_of_the_caller_stays():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    make_network("star_gen", 3, 280, ProbeSettings(hidden_size=16, num_heads=2, num_layers=1), 4, 20.0, 0)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("name", GENERATORS)
def test_text_time_and_latents_all_matter(name, make, captions):
    network = make(name)
    frames, device = torch.full((1,), 20), torch.device("cpu")
    latents, t = torch.randn(1, 20, 6), torch.full((1,), 0.4)
    tone, noise, empty = (captions.rows([text], device) for text in ("a tone", "a noise", ""))
    with torch.no_grad():
        first = network(latents, t, tone, frames)
        assert first.shape == (1, 20, 6)
        for others in (
            (latents, t, noise, frames),
            (latents, t, empty, frames),
            (latents, t + 0.3, tone, frames),
            (latents.flip(1), t, tone, frames),
        ):
            assert not torch.allclose(network(*others), first, atol=1e-4)


@pytest.mark.parametrize("name", GENERATORS)
def test_a_batch_of_different_lengths_is_each_clip_by_itself(name, make, captions):
    network, lengths, device = make(name), [20, 13], torch.device("cpu")
    silence = torch.zeros(20, 6)
    clips, t = [torch.randn(length, 6) for length in lengths], torch.tensor([0.3, 0.8])
    text = captions.rows(["a tone", ""], device)
    with torch.no_grad():
        padded = pad_latents(clips, network.window, silence)
        together = network(padded, t, text, torch.tensor(lengths))
        for row, (clip, length) in enumerate(zip(clips, lengths, strict=True)):
            own = pad_latents([clip], network.window, silence)
            words = tuple(part[row : row + 1] for part in text)
            alone = network(own, t[row : row + 1], words, torch.tensor([length]))
            assert torch.allclose(together[row, :length], alone[0, :length], atol=1e-5)


@pytest.mark.parametrize("name", GENERATORS)
def test_text_may_be_encoded_beforehand(name, make, captions):
    network, device = make(name), torch.device("cpu")
    text = captions.rows(["a tone", "", "a noise"], device)
    latents, t, frames = torch.randn(3, 20, 6), torch.rand(3), torch.tensor([20, 20, 11])
    with torch.no_grad():
        expected = network(latents, t, text, frames)
        given = network(latents, t, network.encode_text(text), frames)
    for row, length in enumerate(frames.tolist()):
        assert torch.allclose(given[row, :length], expected[row, :length], atol=1e-5)


def test_the_dit_fills_its_window_with_silence():
    silence = torch.arange(12.0).reshape(6, 2)
    filled = pad_latents([torch.ones(4, 2), torch.ones(6, 2)], 6, silence)
    assert torch.equal(filled[0, 4:], silence[4:]) and torch.equal(filled[1], torch.ones(6, 2))
    zeros = pad_latents([torch.ones(4, 2), torch.ones(6, 2)], None, silence)
    assert not zeros[0, 4:].any()


def test_the_dit_predicts_towards_the_data(make, captions, monkeypatch):
    """diffusers' transformer predicts noise - data; the network's sign must be the other one."""
    network = make("dit")
    assert isinstance(network, DiTNetwork)
    monkeypatch.setattr(network.dit, "forward", lambda latents, *arguments: latents)
    latents = torch.randn(1, 20, 6)
    text = captions.rows(["a tone"], torch.device("cpu"))
    velocity = network(latents, torch.rand(1), text, torch.tensor([20]))
    assert torch.equal(velocity, -latents)


def test_both_generators_have_about_as_many_weights():
    sizes = [
        num_parameters(make_network(name, 64, 420, ProbeSettings(), 108, 21.5, 0)) for name in GENERATORS
    ]
    assert max(sizes) / min(sizes) < 1.1


def test_the_captions_hold_the_empty_one_and_those_never_trained_on(captions):
    assert {"", "a tone", "a noise"} == set(captions.texts)
    ids, mask = captions.rows(["a tone", ""], torch.device("cpu"))
    assert ids.shape == mask.shape and mask.sum(dim=1).tolist()[1] == 1
    # padded on the left
    assert mask[:, -1].all()
