"""The pictures of a report show level, time and frequency rightly, whatever a model makes."""

import math

import numpy as np
import pytest
import torch
from matplotlib import _pylab_helpers

RATE = 16000


def tone(frequency, seconds=0.5, amplitude=0.5):
    time = torch.arange(int(seconds * RATE)) / RATE
    return amplitude * torch.sin(2 * np.pi * frequency * time)[None]


def panels(figure):
    return [axes for axes in figure.axes if axes.get_title() and axes.images]


def loudest(axes):
    return float(np.max(axes.images[0].get_array()))


def test_originals_stand_beside_their_reconstructions_on_one_scale():
    from engine.reports import comparison_figure

    clip = tone(1000)
    figure = comparison_figure([("dog", clip, 0.1 * clip), ("cat", 0.01 * clip, 0.01 * clip)], RATE)
    left, right, *other = panels(figure)
    assert [axes.get_title() for axes in panels(figure)] == [
        "dog · original",
        "dog · reconstruction",
        "cat · original",
        "cat · reconstruction",
    ]
    assert loudest(left) == pytest.approx(0.0, abs=1e-6)
    assert loudest(right) == pytest.approx(-20.0, abs=1e-3)
    assert [loudest(axes) for axes in other] == pytest.approx([0.0, 0.0], abs=1e-6)
    assert len({axes.images[0].get_clim() for axes in panels(figure)}) == 1
    assert left.get_subplotspec().rowspan == right.get_subplotspec().rowspan


def test_axes_are_in_seconds_and_kilohertz():
    from engine.reports import spectrogram_figure

    figure = spectrogram_figure({"short": tone(300), "long": tone(3000, seconds=2.0)}, RATE)
    short, long = panels(figure)
    assert short.get_xlim() == long.get_xlim() == (0, 2.0)
    assert short.images[0].get_extent()[1] == pytest.approx(0.5, abs=0.04)
    assert short.get_xlabel() == "time [s]"
    assert short.get_ylabel() == "frequency [kHz]"
    labels = [label.get_text() for label in short.get_yticklabels()]
    assert labels == ["0.3", "1", "3"]
    for axes, label in ((short, "0.3"), (long, "3")):
        bands = np.asarray(axes.images[0].get_array()).mean(axis=1)
        low, high = axes.images[0].get_extent()[2:]
        band_height = (high - low) / len(bands)
        loudest_height = low + (bands.argmax() + 0.5) * band_height
        assert loudest_height == pytest.approx(axes.get_yticks()[labels.index(label)], abs=1.5 * band_height)


def test_clips_fill_rows_evenly_and_long_names_are_cut():
    from engine.reports import spectrogram_figure

    def shape(number):
        figure = spectrogram_figure({f"{index} " + "x" * 80: tone(440) for index in range(number)}, RATE)
        assert len(panels(figure)) == number
        assert all(len(axes.get_title()) <= 44 for axes in panels(figure))
        grid = panels(figure)[0].get_gridspec()
        return grid.nrows, grid.ncols

    assert [shape(number) for number in (1, 2, 3, 4, 5, 7)] == [
        (1, 1),
        (1, 2),
        (1, 3),
        (2, 2),
        (2, 3),
        (3, 3),
    ]


def test_a_model_that_has_gone_wrong_is_drawn_too(tmp_path):
    from engine.reports import comparison_figure, spectrogram_figure
    from star_hf.evaluation.plots import save_figure

    silence, broken = torch.zeros(2, RATE), torch.full((2, RATE), float("nan"))
    figure = comparison_figure([("silence", silence, tone(440)), ("broken", tone(440), broken)], RATE)
    assert save_figure(figure, tmp_path / "a.png").stat().st_size > 0
    assert save_figure(spectrogram_figure({"both": broken}, RATE), tmp_path / "b.png").stat().st_size > 0


def test_kl_profile_shows_each_channel_its_eighths_and_the_rate():
    from engine.reports import kl_profile_figure

    channel_kl = torch.linspace(3, 0, 16)
    figure = kl_profile_figure(channel_kl, frame_rate=50.0)
    (axes,) = figure.axes
    channels, eighths = axes.lines
    assert channels.get_ydata() == pytest.approx(channel_kl.numpy())
    assert eighths.get_ydata() == pytest.approx(channel_kl.view(8, 2).mean(dim=1).numpy())
    rate = 24.0 / math.log(2) * 50 / 1000
    assert axes.get_title().startswith(f"24.0 nats per frame, {rate:.2f} kbit/s")
    assert "kbit/s" not in kl_profile_figure(channel_kl).axes[0].get_title()


def test_nothing_to_show_is_refused():
    from engine.reports import comparison_figure, kl_profile_figure, spectrogram_figure

    with pytest.raises(ValueError, match="`pairs` is empty"):
        comparison_figure([], RATE)
    with pytest.raises(ValueError, match="`clips` is empty"):
        spectrogram_figure({}, RATE)
    with pytest.raises(ValueError, match=r"must be \(channels,\), got shape \(2, 3\)"):
        kl_profile_figure(torch.zeros(2, 3))


def test_no_figure_is_left_in_a_global_list():
    from engine.reports import kl_profile_figure, spectrogram_figure

    before = len(_pylab_helpers.Gcf.figs)
    spectrogram_figure({"tone": tone(440)}, RATE)
    kl_profile_figure(torch.ones(4))
    assert len(_pylab_helpers.Gcf.figs) == before
