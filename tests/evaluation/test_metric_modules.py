"""The `evaluate` modules: each loads from its folder, equals its function, and can be pushed as a Space."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import evaluate
import numpy as np
import pytest
import torch
import yaml

import star_hf.evaluation as evaluation
from star_hf import write_audio
from star_hf.evaluation import metric_app
from star_hf.evaluation.reconstruction_suite import BAND_METRIC, PAIR_METRICS

RATE = 16000
WAVEFORM_METRICS = sorted(name for name in PAIR_METRICS if name not in ("pesq", "stoi"))
SYMMETRIC = ("multi_resolution_mel_distance", "si_sdr")  # but for silence
SET_METRICS = ("frechet_distance", "kernel_audio_distance")


def _clips(samples=8000):
    generator = torch.Generator().manual_seed(samples)
    reference = 0.1 * torch.randn(2, samples, generator=generator)
    return torch.linspace(0.5, 2, samples) * reference + 0.05 * torch.randn(
        2, samples, generator=generator
    ), reference


def _load(name, tmp_path):
    return evaluate.load(evaluation.metric_path(name), cache_dir=str(tmp_path))


def test_metrics_need_nothing_beyond_the_library():
    """Loudness, speech and the modules import their packages when they are called."""
    code = (
        "import sys\n"
        "for name in ('scipy', 'sklearn', 'matplotlib', 'evaluate', 'pesq', 'pystoi'):\n"
        "    sys.modules[name] = None\n"
        "import star_hf.evaluation as e, torch\n"
        "print(e.stft_distance(torch.zeros(1, 1, 2000), torch.zeros(1, 1, 2000)).item())\n"
        "e.integrated_loudness(torch.zeros(1, 1, 8000), 8000)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout == "0.0\n"
    assert 'ImportError: loudness needs scipy: `pip install "star-hf[eval]"`' in run.stderr


def test_every_metric_has_a_module():
    expected = {*PAIR_METRICS, BAND_METRIC, *SET_METRICS, "tag_divergence"}
    assert set(evaluation.metric_names()) == expected
    with pytest.raises(ValueError, match="`name` must be one of band_errors"):
        evaluation.metric_path("accuracy")


@pytest.mark.parametrize("name", WAVEFORM_METRICS)
def test_waveform_modules_average_over_clips_of_any_length(name, tmp_path):
    pairs = [_clips(8000), _clips(9000)]
    rate = {"sampling_rate": RATE} if PAIR_METRICS[name].takes_rate else {}
    result = _load(name, tmp_path).compute(
        predictions=[prediction.numpy() for prediction, _ in pairs],
        references=[reference.numpy() for _, reference in pairs],
        **rate,
    )
    function = getattr(evaluation, name)
    expected = np.mean([function(*(clip[None] for clip in pair), **rate).item() for pair in pairs])
    assert result == {name: pytest.approx(expected, rel=1e-4)}
    prediction, reference = (clip[None] for clip in pairs[0])
    difference = function(prediction, reference, **rate) - function(reference, prediction, **rate)
    assert (abs(difference.item()) < 1e-4) == (name in SYMMETRIC)


def test_band_module_names_its_bands(tmp_path):
    prediction, reference = _clips()
    result = _load("band_errors", tmp_path).compute(
        predictions=[prediction.numpy()], references=[reference.numpy()], sampling_rate=RATE, bands=[0, 1000]
    )
    expected = evaluation.band_errors(prediction[None], reference[None], RATE, bands=[0, 1000])
    assert list(result) == [
        "band_error_0-1000_hz",
        "band_error_1000-8000_hz",
        "band_bias_0-1000_hz",
        "band_bias_1000-8000_hz",
    ]
    assert result["band_bias_1000-8000_hz"] == pytest.approx(expected.bias[1].item(), rel=1e-4)


def test_set_modules_take_sets_of_different_size(tmp_path):
    generator = np.random.default_rng(0)
    prediction, reference = generator.normal(size=(9, 3)) + 1, generator.normal(size=(12, 3))
    for name in SET_METRICS:
        result = _load(name, tmp_path).compute(predictions=[prediction], references=[reference])
        assert result == {name: pytest.approx(getattr(evaluation, name)(prediction, reference))}


def test_tag_module(tmp_path):
    prediction, reference = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    result = _load("tag_divergence", tmp_path).compute(
        predictions=prediction.numpy(), references=reference.numpy(), activation="sigmoid"
    )
    expected = evaluation.tag_divergence(prediction, reference, "sigmoid").item()
    assert result == {"tag_divergence": pytest.approx(expected, rel=1e-5)}


@pytest.mark.parametrize("name", evaluation.metric_names())
def test_a_folder_is_a_space(name, monkeypatch):
    folder = Path(evaluation.metric_path(name))
    _, front, text = (folder / "README.md").read_text().split("---\n", 2)
    card = yaml.safe_load(front)
    assert (card["sdk"], card["app_file"], card["tags"]) == ("gradio", "app.py", ["evaluate", "metric"])
    assert card["title"] and card["emoji"] and card["description"] and card["sdk_version"]
    assert f'evaluate.load(metric_path("{name}"))' in text
    assert "star-hf[eval]" in (folder / "requirements.txt").read_text().splitlines()

    launched = []
    page = SimpleNamespace(launch=lambda: launched.append(name))
    monkeypatch.setattr(metric_app, "build_app", lambda wanted: page if wanted == name else None)
    runpy.run_path(str(folder / "app.py"))
    assert launched == [name]


@pytest.mark.parametrize("name", ["si_sdr", "frechet_distance", "tag_divergence"])
def test_examples_of_the_cards_run(name, capsys):
    text = (Path(evaluation.metric_path(name)) / "README.md").read_text()
    exec(text.split("```python\n")[1].split("```")[0], {})


@pytest.fixture
def gradio(monkeypatch):
    """What a page uses of gradio; `Interface` keeps its arguments."""

    class Error(Exception):
        pass

    parts = {name: lambda **options: options for name in ("Audio", "Checkbox", "File", "Textbox")}
    package = SimpleNamespace(Error=Error, Interface=lambda **options: SimpleNamespace(**options), **parts)
    monkeypatch.setitem(sys.modules, "gradio", package)
    return package


def test_the_page_measures_two_audio_files(gradio, tmp_path):
    prediction, reference = _clips()
    files = [
        str(write_audio(tmp_path / name, clip, RATE, peak="keep"))
        for name, clip in (("p.wav", prediction), ("r.wav", reference), ("short.wav", prediction[:, :7000]))
    ]
    page = metric_app.build_app("mel_distance")
    assert [part["label"] for part in page.inputs[:2]] == ["Prediction", "Reference"]
    value = json.loads(page.fn(files[0], files[1]))["mel_distance"]
    expected = evaluation.mel_distance(prediction[None], reference[None], RATE).item()
    assert value == pytest.approx(expected, rel=0.01)
    with pytest.raises(gradio.Error, match="`prediction` has 7000 samples and `reference` 8000"):
        page.fn(files[2], files[1])
    assert json.loads(page.fn(files[2], files[1], True))["mel_distance"] > 0


def test_the_page_measures_two_tables(gradio, tmp_path):
    generator = np.random.default_rng(0)
    tables = [generator.normal(size=(8, 3)), generator.normal(size=(8, 3))]
    for name, table in zip("pr", tables, strict=True):
        np.save(tmp_path / f"{name}.npy", table)
    files = [str(tmp_path / "p.npy"), str(tmp_path / "r.npy")]
    for name in ("frechet_distance", "tag_divergence"):
        value = json.loads(metric_app.build_app(name).fn(*files))[name]
        assert value == pytest.approx(float(getattr(evaluation, name)(*tables)), rel=1e-4)


def test_the_page_names_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ImportError, match="the page of a metric needs gradio"):
        metric_app.build_app("si_sdr")
