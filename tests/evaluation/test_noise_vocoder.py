"""The control keeps the envelope and loses the pitch."""

import math

import pytest
import torch

from star_hf.evaluation.noise_vocoder import noise_vocode

RATE = 16000
TIME = torch.arange(2 * RATE) / RATE


def _tonality(waveform):
    """Share of the energy in the strongest hundredth of the spectrum's bins."""
    power = torch.fft.rfft(waveform[0]).abs().square()
    return (power.topk(len(power) // 100).values.sum() / power.sum()).item()


def test_a_tone_becomes_noise_of_its_level_and_colour():
    tone = torch.sin(2 * math.pi * 3000 * TIME)[None]
    noise = noise_vocode(tone, RATE)
    assert noise.shape == tone.shape
    assert noise.std().item() == pytest.approx(tone.std().item(), rel=1e-3)
    assert _tonality(tone) > 0.99 and _tonality(noise) < 0.7
    spectrum = torch.fft.rfft(noise[0]).abs().square()
    frequency = torch.fft.rfftfreq(len(TIME), 1 / RATE)
    near = (frequency > 2500) & (frequency < 3500)
    assert spectrum[near].sum() / spectrum.sum() > 0.95


def test_loudness_over_time_is_kept():
    burst = torch.randn(1, 2 * RATE) * (TIME < 0.5)
    noise = noise_vocode(burst, RATE)
    level = burst[:, : RATE // 2].std().item()
    assert noise[:, : RATE // 2].std().item() == pytest.approx(level, rel=0.05)
    assert noise[:, RATE:].abs().max() < 1e-3


def test_the_seed_decides():
    clip = torch.randn(2, RATE)
    assert torch.equal(noise_vocode(clip, RATE, seed=1), noise_vocode(clip, RATE, seed=1))
    assert not torch.allclose(noise_vocode(clip, RATE, seed=1), noise_vocode(clip, RATE, seed=2), atol=0.1)


def test_wrong_waveforms_are_refused():
    with pytest.raises(ValueError, match=r"\(1024,\)"):
        noise_vocode(torch.zeros(1024), RATE)
    with pytest.raises(ValueError, match=r"samples > 1024"):
        noise_vocode(torch.zeros(1, 1024), RATE)
