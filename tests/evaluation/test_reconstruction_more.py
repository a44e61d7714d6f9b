"""Multi-resolution mel distance, band errors, stereo correlation, speech metrics."""

from __future__ import annotations

import math
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from star_hf.evaluation import (
    PAIR_METRICS,
    band_errors,
    measure_pair,
    multi_resolution_mel_distance,
    pesq,
    prepare_pair,
    stereo_correlation_error,
    stoi,
)
from star_hf.evaluation.reconstruction_suite import audio_files, check_metrics, pair_folders

RATE = 44100


def _clips(batch=2, channels=2, samples=6000):
    generator = torch.Generator().manual_seed(0)
    reference = 0.2 * torch.randn(batch, channels, samples, generator=generator)
    noise = torch.randn(batch, channels, samples, generator=generator)
    return 1.3 * reference + torch.linspace(0.05, 0.3, batch)[:, None, None] * noise, reference


@pytest.mark.parametrize(("rate", "all_filled"), [(44100, True), (96000, False)])
def test_multi_resolution_mel_distance_of_a_gain(rate, all_filled):
    """A gain of ten shifts every log-mel by 1, but for bands that hold no bin: counted on their edges."""
    reference = 100 * _clips()[1]  # far above the floor
    filled = 0.0
    for window, bands in ((32, 5), (64, 10), (128, 20), (256, 40), (512, 80), (1024, 160), (2048, 320)):
        top = 15 + math.log(rate / 2 / 1000) * 27 / math.log(6.4)
        mel = np.linspace(0, top, bands + 2)
        edges = np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * math.log(6.4) / 27))
        bins = np.linspace(0, rate / 2, window // 2 + 1)
        inside = [((bins > low) & (bins < high)).any() for low, high in zip(edges, edges[2:], strict=False)]
        filled += np.mean(inside)
    distance = multi_resolution_mel_distance(10 * reference, reference, rate).item()
    assert (filled > 6.999) == all_filled
    assert distance == pytest.approx(filled, abs=1e-3)


def test_multi_resolution_mel_distance_floors_silence():
    silence = torch.zeros(1, 1, 4000)
    assert multi_resolution_mel_distance(silence, silence, RATE).item() == 0
    assert torch.isfinite(multi_resolution_mel_distance(silence, _clips(1, 1, 4000)[1], RATE))


def test_band_errors_find_the_band_and_its_sign():
    """The prediction is 20 dB down above 5 kHz."""
    generator = torch.Generator().manual_seed(0)
    reference = torch.randn(1, 1, 3 * RATE, generator=generator)
    spectrum = torch.fft.rfft(reference)
    frequency = torch.fft.rfftfreq(reference.shape[-1], 1 / RATE)
    prediction = torch.fft.irfft(spectrum * torch.where(frequency > 5000, 0.1, 1.0), reference.shape[-1])
    result = band_errors(prediction, reference, RATE, bands=(0, 1000, 4500, 5500))
    assert result.edges == ((0, 1000), (1000, 4500), (4500, 5500), (5500, 22050))
    assert result.bias[:2].tolist() == pytest.approx([0, 0], abs=0.05)
    assert result.bias[3].item() == pytest.approx(-20, abs=0.05)
    assert result.error[3].item() == pytest.approx(20, abs=0.05)
    assert -11 < result.bias[2].item() < -9
    swapped = band_errors(reference, prediction, RATE, bands=(0, 1000, 4500, 5500))
    assert swapped.bias.tolist() == pytest.approx((-result.bias).tolist())


def test_band_errors_of_a_gain_in_default_and_mel_bands():
    _, reference = _clips()
    for bands, count in ((None, 8), (20, 20)):
        options = {} if bands is None else {"bands": bands}
        result = band_errors(10 * reference, reference, RATE, **options)
        assert result.error.shape == result.bias.shape == (count,) and len(result.edges) == count
        assert result.error.tolist() == pytest.approx([20] * count, abs=1e-2)
    assert [round(edge) for edge in result.edges[-1]][1] == 22050
    assert all(low < high for low, high in result.edges)
    # At 8 kHz the default ends at 4 kHz.
    assert band_errors(reference, reference, 8000).edges[-1] == (2000, 4000)


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        ((1000, 500), "`bands` must be ascending edges"),
        ((0, 30000), "below 22050 Hz"),
        ((), "`bands` must be"),
        ((100, 101, 200), "100-101 Hz hold no bin"),
        (0, "a number of mel bands >= 1, got 0"),
        (2000, "hold no bin"),
    ],
)
def test_wrong_bands_are_refused(bands, message):
    prediction, reference = _clips()
    with pytest.raises(ValueError, match=message):
        band_errors(prediction, reference, RATE, bands=bands)


def test_stereo_correlation_error_by_hand():
    """Mono in place of independent channels is 1 off, opposite in place of equal ones 2."""
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, 1, 1, 200_000, generator=generator)
    independent, mono = torch.cat([left, right], dim=1), torch.cat([left, left], dim=1)
    opposite = torch.cat([left, -left], dim=1)
    assert stereo_correlation_error(mono, independent).item() == pytest.approx(1, abs=0.01)
    assert stereo_correlation_error(opposite, mono).item() == pytest.approx(2)
    assert stereo_correlation_error(0.1 * mono, mono).item() == pytest.approx(0, abs=1e-6)
    # A silent channel correlates with nothing.
    assert stereo_correlation_error(torch.cat([left, 0 * left], dim=1), mono).item() == pytest.approx(1)


def test_stereo_correlation_is_weighted_by_the_reference():
    """A loud mono half and a faint second half of independent channels, made mono throughout."""
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, 1, 1, 64 * 2048, generator=generator)
    envelope = torch.where(torch.arange(64 * 2048) < 32 * 2048, 1.0, 0.1)
    second = torch.where(torch.arange(64 * 2048) < 32 * 2048, left, right)
    reference = envelope * torch.cat([left, second], dim=1)
    mono = torch.cat([left, left], dim=1)
    assert stereo_correlation_error(mono, reference).item() == pytest.approx(0.01 / 1.01, abs=0.004)
    assert stereo_correlation_error(reference, mono).item() == pytest.approx(0.5, abs=0.02)


def test_stereo_correlation_needs_two_channels_and_sound():
    prediction, reference = _clips(channels=1)
    with pytest.raises(ValueError, match=r"must have 2 channel\(s\), got 1"):
        stereo_correlation_error(prediction, reference)
    with pytest.raises(ValueError, match=r"`reference` is silent in clips \[0\]"):
        stereo_correlation_error(torch.ones(1, 2, 3000), torch.zeros(1, 2, 3000))


@pytest.mark.parametrize("name", ["multi_resolution_mel_distance", "stereo_correlation_error", "band_errors"])
def test_value_of_a_clip_does_not_depend_on_the_batch(name):
    rate = () if name == "stereo_correlation_error" else (RATE,)

    def measure(prediction, reference, **options):
        if name == "band_errors":
            return band_errors(prediction, reference, *rate, **options).error
        return PAIR_METRICS[name].function(prediction, reference, *rate, **options)

    prediction, reference = _clips(batch=3)
    together = measure(prediction, reference, reduction="none")
    alone = torch.stack([measure(prediction[i : i + 1], reference[i : i + 1]) for i in range(3)])
    assert torch.allclose(together, alone, rtol=1e-4)
    assert torch.allclose(measure(prediction, reference), alone.mean(dim=0), rtol=1e-4)
    assert not torch.allclose(alone[0], alone[2], rtol=0.01)
    assert measure(reference, reference).abs().max() == 0


@pytest.fixture
def packages(monkeypatch):
    """Stand-ins with the argument order of the real ones: (…, reference, degraded, …)."""

    class PesqError(RuntimeError):
        pass

    def fake_pesq(rate, reference, degraded, mode):
        if not degraded.any():
            raise PesqError(b"No utterances detected")
        return rate / 1000 + {"nb": 0.1, "wb": 0.2}[mode] + float(reference[0]) - 2 * float(degraded[0])

    def fake_stoi(clean, degraded, rate, extended=False):
        if len(clean) < 100:
            warnings.warn(
                "Not enough STFT frames to compute intermediate measure", RuntimeWarning, stacklevel=2
            )
        return float(clean[0]) - 2 * float(degraded[0]) + 10 * extended + rate / 1000

    monkeypatch.setitem(sys.modules, "pesq", SimpleNamespace(pesq=fake_pesq, PesqError=PesqError))
    monkeypatch.setitem(sys.modules, "pystoi", SimpleNamespace(stoi=fake_stoi))


def test_speech_metrics_pass_the_reference_where_it_belongs(packages):
    prediction = torch.full((2, 1, 200), 0.25)
    reference = torch.stack([torch.full((1, 200), 0.5), torch.full((1, 200), 1.0)])
    assert pesq(prediction, reference, 16000, reduction="none").tolist() == pytest.approx([16.2, 16.7])
    assert pesq(prediction, reference, 8000).item() == pytest.approx(8.35)
    assert stoi(prediction, reference, 44100, reduction="none").tolist() == pytest.approx([44.1, 44.6])
    assert stoi(prediction, reference, 44100, extended=True).item() == pytest.approx(54.35)


def test_speech_metrics_refuse_what_they_cannot_judge(packages):
    clip = torch.ones(1, 1, 200)
    with pytest.raises(ValueError, match=r"must be 8000 .* or 16000 Hz .*, got 44100; `prepare_pair"):
        pesq(clip, clip, 44100)
    with pytest.raises(ValueError, match="PESQ cannot judge clip 0: No utterances detected"):
        pesq(0 * clip, clip, 16000)
    with pytest.raises(ValueError, match="STOI cannot judge clip 0"):
        stoi(clip[..., :50], clip[..., :50], 16000)
    for metric in (pesq, stoi):
        with pytest.raises(ValueError, match="`reference` is silent"):
            metric(clip, 0 * clip, 16000)
        with pytest.raises(ValueError, match=r"must have 1 channel\(s\), got 2"):
            metric(clip.repeat(1, 2, 1), clip.repeat(1, 2, 1), 16000)


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pesq", None)
    monkeypatch.setitem(sys.modules, "pystoi", None)
    clip = torch.ones(1, 1, 200)
    with pytest.raises(ImportError, match="PESQ needs pesq: `pip install pesq`"):
        pesq(clip, clip, 16000)
    with pytest.raises(ImportError, match="STOI needs pystoi: `pip install pystoi`"):
        stoi(clip, clip, 16000)


def test_the_real_packages_order_good_above_bad():
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    generator = torch.Generator().manual_seed(0)
    envelope = torch.sin(torch.arange(32000) / 2000).clamp(min=0).square()
    clean = 0.3 * envelope * torch.randn(1, 1, 32000, generator=generator)
    noise = torch.randn(1, 1, 32000, generator=generator)
    for metric in (pesq, stoi):
        good, bad = (metric(clean + level * noise, clean, 16000).item() for level in (0.003, 0.1))
        assert good > bad and metric(clean, clean, 16000).item() >= good


def test_a_suite_tells_what_a_clip_has_no_value_for():
    prediction, reference = _clips(batch=1, channels=1, samples=1000)
    scores = measure_pair(prepare_pair(prediction[0], reference[0], RATE, RATE), ["si_sdr", "stft_distance"])
    assert list(scores.values) == ["si_sdr"] and "1000 samples" in scores.refused["stft_distance"]
    with pytest.raises(ValueError, match="got sdr"):
        check_metrics(["si_sdr", "sdr"])
    with pytest.raises(ValueError, match="got none"):
        check_metrics([])


def test_folders_are_paired_by_name(tmp_path):
    for file in (
        "a/x.wav",
        "a/deep/y.FLAC",
        "a/only.mp3",
        "b/x.flac",
        "b/deep/y.wav",
        "b/notes.txt",
        "b/.z.wav",
    ):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    found = pair_folders(tmp_path / "a", tmp_path / "b")
    assert found.pairs == {
        "deep/y": (tmp_path / "a/deep/y.FLAC", tmp_path / "b/deep/y.wav"),
        "x": (tmp_path / "a/x.wav", tmp_path / "b/x.flac"),
    }
    assert (found.only_predictions, found.only_references) == (("only",), ())
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty: holds no audio file"):
        audio_files(tmp_path / "empty")
