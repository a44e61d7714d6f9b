"""Pictures are written, show the data, and are the same for the same data."""

import matplotlib.image
import numpy as np
import pytest
import torch
from transformers.audio_utils import mel_filter_bank

from star_hf.evaluation import LatentProfile
from star_hf.evaluation.plots import (
    SpectrogramPair,
    plot_kl_profile,
    plot_spectrogram_grid,
    plot_training_curves,
    spectrogram_power,
)


def _differ(first, second):
    return not np.array_equal(matplotlib.image.imread(first), matplotlib.image.imread(second))


def test_kl_profile(tmp_path):
    flat, falling = (LatentProfile(kl, 86.1, 10) for kl in ((1.0,) * 16, tuple(np.linspace(2, 0.1, 16))))
    first = plot_kl_profile({"STAR": falling, "isotropic": flat}, tmp_path / "new" / "a.png")
    again = plot_kl_profile({"STAR": falling, "isotropic": flat}, tmp_path / "b.png")
    other = plot_kl_profile({"STAR": flat, "isotropic": flat}, tmp_path / "c.png")

    assert first.read_bytes() == again.read_bytes()
    assert _differ(first, other)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.png", "c.png", "new"]


def test_spectrogram_grid_shows_the_frequency(tmp_path):
    time = torch.arange(16000) / 16000
    low, high = (torch.sin(2 * np.pi * f * time)[None] for f in (300.0, 4000.0))
    pairs = [SpectrogramPair(f"tone {i}", low, high) for i in range(3)]
    path = plot_spectrogram_grid(pairs, 16000, tmp_path / "grid.png", columns=2)
    swapped = plot_spectrogram_grid(
        [SpectrogramPair(pair.title, high, low) for pair in pairs], 16000, tmp_path / "s.png", columns=2
    )
    assert _differ(path, swapped)


def test_spectrogram_power_has_its_closed_form():
    """A sine of amplitude 1 has the power 1/4 in its line, and opposite channels do not cancel."""
    time = torch.arange(16000, dtype=torch.float64) / 16000
    sine = torch.sin(2 * np.pi * 1000 * time)[None]
    power = spectrogram_power(sine, 16000)[:, 4:-4]
    torch.testing.assert_close(spectrogram_power(3 * sine, 16000)[:, 4:-4], 9 * power)
    torch.testing.assert_close(spectrogram_power(torch.cat([sine, -sine]), 16000)[:, 4:-4], power)
    filters = mel_filter_bank(1025, 96, 40.0, 8000, 16000, mel_scale="slaney")
    # 1000 Hz is line 128; a Hann window halves the amplitude in the lines beside it
    expected = filters[128] / 4 + (filters[127] + filters[129]) / 16
    torch.testing.assert_close(
        power, torch.from_numpy(expected)[:, None].expand_as(power), atol=1e-9, rtol=1e-6
    )


def test_spectrogram_of_silence_and_of_a_single_sample(tmp_path):
    pair = SpectrogramPair("nothing", torch.zeros(2, 4000), torch.ones(1, 1))
    assert plot_spectrogram_grid([pair], 16000, tmp_path / "grid.png").stat().st_size > 0


def test_training_curves(tmp_path):
    positive = plot_training_curves({"loss": [(1, 2.0), (2, 1.0)]}, tmp_path / "a.png")
    negative = plot_training_curves({"SI-SDR": [(1, -2.0), (2, 1.0)]}, tmp_path / "b.png", ylabel="dB")
    assert _differ(positive, negative)
    wide = plot_training_curves({"loss": [(1, 50.0), (2, 7.0), (3, 1.0)]}, tmp_path / "c.png")
    linear = plot_training_curves({"loss": [(1, 50.0), (2, 7.0), (3, 0.0)]}, tmp_path / "d.png")
    assert _differ(wide, linear)


def test_nothing_to_plot_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`profiles` is empty"):
        plot_kl_profile({}, tmp_path / "a.png")
    with pytest.raises(ValueError, match="`pairs` is empty"):
        plot_spectrogram_grid([], 16000, tmp_path / "a.png")
    with pytest.raises(ValueError, match="no points"):
        plot_training_curves({"loss": []}, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
