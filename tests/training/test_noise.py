"""Noise belongs to a sample: not to its place in a batch, its padding, or what was drawn before."""

import torch

from engine.noise import SampleNoise

SEEDS = torch.tensor([3, 2**62 + 1, 5])


def test_a_sample_has_its_noise_in_any_batch():
    together = SampleNoise(SEEDS, "cpu").normal(4, 7)
    assert together.shape == (3, 4, 7)
    for index in range(3):
        alone = SampleNoise(SEEDS[index : index + 1], "cpu").normal(4, 7)
        torch.testing.assert_close(alone[0], together[index], rtol=0, atol=0)
    assert not torch.equal(together[0], together[1])


def test_padding_does_not_change_the_noise():
    lengths = torch.tensor([5, 19, 1])
    short = SampleNoise(SEEDS, "cpu").normal(19, 3, lengths=lengths)
    long = SampleNoise(SEEDS, "cpu").normal(40, 3, lengths=lengths)
    torch.testing.assert_close(short, long[:, :19], rtol=0, atol=0)
    assert [int(row.any(dim=1).sum()) for row in long] == [5, 19, 1]


def test_calls_continue_each_sequence():
    noise = SampleNoise(SEEDS, "cpu")
    first, second = noise.normal(100), noise.normal(100)
    assert not torch.equal(first, second)
    again = SampleNoise(SEEDS, "cpu")
    again.normal(100)
    torch.testing.assert_close(again.normal(100), second, rtol=0, atol=0)


def test_the_noise_is_normal():
    values = SampleNoise(torch.arange(64), "cpu").normal(2000)
    assert abs(float(values.mean())) < 0.01 and abs(float(values.std()) - 1) < 0.01
