"""Sampling: the plain loop and the pipeline agree, clips do not hang on their batch, or nothing is timed."""

import argparse

import pytest
import torch


def arguments_of(module, *options):
    parser = argparse.ArgumentParser()
    module.add_options(parser)
    return parser.parse_args(list(options))


@pytest.fixture
def sampling(load):
    return load("sampling")


@pytest.fixture
def pipeline(load):
    return load("models").make_pipeline(True, torch.device("cpu"), torch.float32)


def test_the_plain_loop_and_the_pipeline_sample_the_same(sampling, pipeline, load):
    prompt = load("models").prompt_of(9)
    noise = torch.randn(1, 4, 12)
    plain, ours = (
        sampler(noise, 5)
        for sampler in (sampling.PlainSampler(pipeline, prompt), sampling.our_sampler(pipeline, prompt))
    )
    assert ours.shape == plain.shape == noise.shape
    assert torch.linalg.vector_norm(plain - noise) > 1e-3
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)


def test_tokens_make_the_target_and_the_operations(sampling, pipeline, report, load):
    options = arguments_of(sampling, "--frames", "20", "--steps", "24", "--timed-steps", "2")
    lines = {tokens: sampling.measure_length(pipeline, tokens, options, report) for tokens in (8, 64)}
    assert (lines[8].target, lines[64].target) == (None, "prefix 64")
    for line in lines.values():
        assert line.error < 1e-4
    # The text is read once, whatever the number of steps; the audio in each.
    layers = load("models").TINY_QWEN3["num_hidden_layers"]
    text, audio = (2 * (64 - 8), 24 * 2 * 20)
    weights = sum(
        p.numel() for name, p in pipeline.model.named_parameters() if "layers" in name and p.ndim == 2
    )
    attention = layers * 2 * 2 * 32 * 2 * (24 * 20 * (64 - 8) + 64 * 64 - 8 * 8)
    assert lines[64].flops - lines[8].flops == pytest.approx(2 * weights * text + attention, rel=1e-6)
    assert lines[8].flops > 2 * weights * audio


def test_velocities_that_differ_are_not_timed(sampling, pipeline, report, monkeypatch):
    def wrong(pipeline, prompt):
        sampler = sampling.PlainSampler(pipeline, prompt)
        return lambda noise, steps, clock=lambda: None: noise + 1.01 * (sampler(noise, steps) - noise)

    monkeypatch.setattr(sampling, "our_sampler", wrong)
    monkeypatch.setattr(sampling, "sampling_in_turn", None)
    with pytest.raises(
        ValueError, match="2 steps after 8 tokens move in float32 differs from the plain loop"
    ):
        sampling.measure_length(pipeline, 8, arguments_of(sampling, "--frames", "20"), report)


@pytest.fixture
def batching(load):
    return load("batching")


def case_of(batching, pipeline, output_type="latent"):
    return batching.Case("tiny", pipeline, ["w1 w2", "w3", "w4 w5 w6"], output_type, timed_steps=2)


def test_a_batch_is_timed_against_one_by_one(batching, pipeline, report):
    options = arguments_of(batching, "--seconds", "0.5", "--steps", "4")
    line = batching.measure_case(case_of(batching, pipeline), options, report)
    assert line.what == "3 prompts of different length at once, 0.5 s, tiny"
    assert (line.target, line.error < 1e-3) == ("batch", True)
    # two of four steps were run, and count for four
    full = batching.Case("tiny", pipeline, ["w1 w2", "w3", "w4 w5 w6"], "latent", timed_steps=4)
    assert line.flops == pytest.approx(batching.measure_case(full, options, report).flops)


def test_clips_that_hang_on_their_batch_are_refused(batching, pipeline, report, monkeypatch):
    original = batching.Case.generate

    def generate(self, indices, *arguments):
        return original(self, indices, *arguments) * (1 + 0.01 * len(indices))

    monkeypatch.setattr(batching.Case, "generate", generate)
    with pytest.raises(ValueError, match="a batch of 3, tiny, differs from one by one in float32"):
        options = arguments_of(batching, "--seconds", "0.5", "--steps", "2")
        batching.measure_case(case_of(batching, pipeline), options, report)


def test_whole_pipelines_give_as_much_audio(load, report):
    module = load("pipeline")
    options = arguments_of(module, "--steps", "2", "--repeats", "1", "--precision", "float32")
    device = torch.device("cpu")
    ours, peer = (make(True, device, torch.float32) for make in (module.make_ours, module.make_stable_audio))
    line = module.measure_length(ours, peer, 0.5, None, options, report)
    assert line.what == "whole pipeline, 0.5 s of audio, 2 steps with guidance"
    assert line.ratio == pytest.approx(line.peer / line.ours)


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        (torch.zeros(1, 2, 90), r"our clip is of shape \(1, 2, 90\), expected is \(1, 2, 100\)"),
        (torch.zeros(2, 2, 100), "our clip is of shape"),
        (torch.full((1, 2, 100), float("nan")), "our clip is not finite"),
    ],
)
def test_a_clip_that_is_none_is_refused(load, clips, message):
    module = load("pipeline")
    module.require_clips(torch.zeros(1, 2, 99), "our", 2, 100)
    with pytest.raises(ValueError, match=message):
        module.require_clips(clips, "our", 2, 100)


def test_the_pipeline_needs_a_gpu(load, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="needs a GPU"):
        load("pipeline").main([])
