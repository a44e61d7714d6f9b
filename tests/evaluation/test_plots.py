"""Pictures are written, show the data, and are the same for the same data."""

import matplotlib.image
import numpy as np
import pytest
import torch

from star_hf.evaluation import LatentProfile
from star_hf.evaluation.plots import (
    SpectrogramPair,
    plot_kl_profile,
    plot_spectrogram_grid,
    plot_training_curves,
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
