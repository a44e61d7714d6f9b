"""Log-mel statistics: what changes them, what does not, and that distances order obvious differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from star_hf.evaluation import frechet_distance
from star_hf.evaluation.log_mel_embedder import LogMelEmbedder

RATE = 32000


def _tone(frequency, seconds=1.0, amplitude=1.0, rate=RATE):
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    return amplitude * torch.sin(2 * math.pi * frequency * time).float()[None]


def test_levels_are_those_of_a_full_scale_tone():
    embedder = LogMelEmbedder()
    for amplitude, level in ((1.0, 0.0), (0.1, -2.0)):
        mean, spread = np.split(embedder.embed(_tone(440.0, amplitude=amplitude), RATE)[0], 2)
        # a band collects a tone by the height of its filters there and over the bins of the window
        assert 10 ** mean.max() == pytest.approx(
            10**level * 10 ** embedder.embed(_tone(440.0), RATE)[0, :32].max(), rel=1e-2
        )
        assert spread[mean.argmax()] < 0.02
    assert mean.argmax() < LogMelEmbedder().embed(_tone(4000.0), RATE)[0, :32].argmax()


def test_silence_is_the_floor_and_faint_noise_is_near_it():
    embedder = LogMelEmbedder()
    silent = embedder.embed(torch.zeros(1, RATE), RATE)
    assert silent[0, :32] == pytest.approx([-6] * 32) and silent[0, 32:] == pytest.approx([0] * 32)
    faint = embedder.embed(1e-4 * torch.randn(1, RATE), RATE)
    assert np.abs(faint - silent).max() < 0.2


def test_windows_cover_the_clip_and_do_not_depend_on_company():
    embedder = LogMelEmbedder(window_s=1.0, hop_s=0.5)
    clip = torch.randn(2, round(2.3 * RATE)) * 0.1
    rows = embedder.embed(clip, RATE)
    assert rows.shape == (4, 64)  # at 0, 0.5, 1.0 s, and one that ends with the clip
    for row, start in zip(rows, (0.0, 0.5, 1.0, 1.3), strict=True):
        part = clip[:, round(start * RATE) : round(start * RATE) + RATE]
        assert embedder.embed(part, RATE)[0] == pytest.approx(row, abs=1e-4)
    together = embedder.embed_clips([(clip, RATE), (clip[:, :RATE], RATE)])
    assert np.array_equal(together[0], rows) and np.array_equal(
        together[1], embedder.embed(clip[:, :RATE], RATE)
    )


def test_other_rates_and_short_clips():
    embedder = LogMelEmbedder()
    at_44100 = embedder.embed(_tone(1000.0, rate=44100), 44100)
    assert at_44100[0, :32].argmax() == embedder.embed(_tone(1000.0), RATE)[0, :32].argmax()
    assert embedder.embed(_tone(1000.0, 0.06), RATE).shape == (1, 64)
    assert embedder.embed(_tone(100.0, 0.06, rate=8000), 8000).shape == (1, 64)


def test_distances_order_obvious_differences():
    embedder = LogMelEmbedder()
    generator = torch.Generator().manual_seed(0)

    def windows(level, smoothing):
        noise = level * torch.randn(1, 40 * RATE, generator=generator)
        if smoothing:
            noise = torch.nn.functional.avg_pool1d(noise, smoothing, 1)
        return embedder.embed(noise, RATE)

    reference = windows(0.1, 0)
    same, quieter, duller = (
        frechet_distance(windows(*how), reference) for how in ((0.1, 0), (0.03, 0), (0.1, 4))
    )
    assert same < 0.01 * min(quieter, duller)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bands": 0}, "`bands` must be >= 1"),
        ({"sampling_rate": 100}, "`sampling_rate` high enough"),
        ({"window_s": 0.01}, "`window_s` must be at least 0.05"),
        ({"hop_s": 2.0}, "`hop_s` above 0 and at most the window"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LogMelEmbedder(**options)


def test_wrong_clips_are_refused():
    embedder = LogMelEmbedder()
    with pytest.raises(ValueError, match="at least 0.05 s"):
        embedder.embed(torch.zeros(1, 100), RATE)
    with pytest.raises(ValueError, match="waveform"):
        embedder.embed(torch.full((1, RATE), torch.nan), RATE)
    with pytest.raises(ValueError, match="waveform"):
        embedder.embed(torch.zeros(RATE), RATE)
