"""The pictures of a probe show its values."""

from __future__ import annotations

import matplotlib.image
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from probe_documents import make_document

from star_hf.probe import pictures
from star_hf.probe.pictures import Clip, plot_ranking, plot_spectrograms
from star_hf.probe.ranking import RunTable, rank

VALUES = {"a": {2: [1.0, 2.0], 4: [1.0, 1.5]}, "b": {2: [3.0, 4.0], 4: [0.5, 1.0]}}


def _drawn(values, metric="frechet"):
    axes = Figure().subplots()
    pictures.draw_slopes(axes, RunTable(make_document(values), "star_gen"), metric)
    return axes


def _differ(first, second):
    return not np.array_equal(matplotlib.image.imread(first), matplotlib.image.imread(second))


def test_slopes_go_through_the_means_and_dots_are_seeds():
    axes = _drawn(VALUES)
    lines = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    assert lines["a"].get_ydata().tolist() == [1.5, 1.25] and lines["b"].get_ydata().tolist() == [3.5, 0.75]
    dots = [tuple(line.get_ydata()) for line in axes.lines if line.get_label().startswith("_")]
    assert dots == [(1.0, 2.0), (1.0, 1.5), (3.0, 4.0), (0.5, 1.0)]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2 steps", "4 steps"]
    assert axes.get_yscale() == "linear" and axes.get_ylabel() == "Fréchet distance ↓"


def test_values_over_a_decade_are_logarithmic():
    assert _drawn({"a": {2: [1.0, 2.0]}, "b": {2: [30.0, 40.0]}}).get_yscale() == "log"
    # a share of 0 has no logarithm
    none = {"a": {2: {"frechet": [1.0], "accuracy": [0.0]}}, "b": {2: {"frechet": [1.0], "accuracy": [1.0]}}}
    assert _drawn(none, "accuracy").get_yscale() == "linear"


def test_a_missing_value_leaves_a_gap():
    values = {"a": {2: [1.0], 4: [1.0]}, "b": {2: {"frechet": [None]}, 4: {"frechet": [2.0]}}}
    (line,) = [line for line in _drawn(values).lines if line.get_label() == "b"]
    assert np.isnan(line.get_ydata()[0]) and line.get_ydata()[1] == 2


def test_ranking_picture(tmp_path):
    document = rank(make_document(VALUES))
    first, again = (plot_ranking(document, tmp_path / name) for name in ("new/a.png", "b.png"))
    assert first.read_bytes() == again.read_bytes()
    other = plot_ranking(rank(make_document({**VALUES, "b": VALUES["a"]})), tmp_path / "c.png")
    assert _differ(first, other)


def test_an_autoencoder_has_one_colour_in_all_generators():
    document = make_document(VALUES, generator="dit")
    alone = make_document({"b": VALUES["b"]})
    document["autoencoders"]["b"]["generators"] |= alone["autoencoders"]["b"]["generators"]
    for generator in ("dit", "star_gen"):
        axes = Figure().subplots()
        pictures.draw_slopes(axes, RunTable(document, generator), "frechet")
        (line,) = [line for line in axes.lines if line.get_label() == "b"]
        assert line.get_color() == pictures.colored(document["autoencoders"])["b"]


def test_spectrograms_show_the_sound(tmp_path):
    time = torch.arange(8000) / 8000
    low, high = (Clip("a tone", torch.sin(2 * np.pi * f * time)[None], 8000) for f in (300.0, 3000.0))
    first = plot_spectrograms({"real": [low, high], "ours": [low]}, tmp_path / "a.png")
    assert _differ(first, plot_spectrograms({"real": [high, low], "ours": [low]}, tmp_path / "b.png"))


def test_nothing_to_draw_is_refused(tmp_path):
    document = make_document({"a": {4: {"frechet": [None]}}})
    with pytest.raises(ValueError, match="no runs with a metric"):
        plot_ranking(document, tmp_path / "a.png")
    with pytest.raises(ValueError, match="`clips` is empty"):
        plot_spectrograms({}, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
