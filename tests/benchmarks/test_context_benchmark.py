"""The Mamba stack is what its recurrence says, and its time is held against length."""

import pytest
import torch


@pytest.fixture
def context(load):
    return load("context")


@pytest.fixture
def vae(load):
    return load("models").make_autoencoder("tiny")


def arguments(context, *options):
    import argparse

    parser = argparse.ArgumentParser()
    context.add_options(parser)
    return parser.parse_args(["--repeats", "1", *options])


def test_the_stack_is_its_recurrence(context, vae):
    assert context.context_error(vae) < 1e-4


def test_the_recurrence_reads_both_ways(load, context, vae):
    features = context.make_features(vae, 20)
    changed = features.clone()
    changed[..., 10] += 1.0
    plain = load("plain_mamba").plain_context
    moved = (
        (plain(vae.encoder.context, changed) - plain(vae.encoder.context, features)).abs().amax(dim=(0, 1, 2))
    )
    assert (moved > 0).all()


def test_a_stack_that_differs_is_not_timed(context, vae, report, monkeypatch):
    with torch.no_grad():
        mixer = vae.encoder.context.layers[0].mixer
        original = mixer.forward
        mixer.forward = lambda x: 1.01 * original(x)
    monkeypatch.setattr(context, "time_in_turn", None)
    with pytest.raises(ValueError, match="the Mamba stack of tiny on cpu differs from its recurrence by"):
        context.measure_size(vae, "tiny", arguments(context), report)


def test_long_encodes_are_counted_by_their_length(context, vae, report):
    options = arguments(context, "--frames", "10", "20", "40", "--encode-frames", "20")
    *lines, growth = context.measure_size(vae, "tiny", options, report)
    assert [line.what for line in lines] == [f"bidirectional Mamba, {n} frames, tiny" for n in (10, 20, 40)]
    assert lines[2].peer == pytest.approx(2 * lines[1].peer)
    for line in lines:
        assert line.ratio == pytest.approx(line.ours / line.peer)
        assert (line.target, line.error < 1e-4) == ("mamba share", True)
    assert growth.target == "mamba growth"


def test_growth_is_the_exponent(context):
    seconds = {100: 5.0, 400: 400**1.5, 1600: 1600**1.5}
    assert context.growth(seconds, "any", "cpu").ratio == pytest.approx(1.5)
