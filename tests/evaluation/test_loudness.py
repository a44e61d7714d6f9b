"""Loudness and true peak against the figures of ITU-R BS.1770 and EBU Tech 3341."""

from __future__ import annotations

import math

import pytest
import torch

from star_hf.evaluation import integrated_loudness, loudness_difference, true_peak, true_peak_difference
from star_hf.evaluation.loudness import k_weighting

RATE = 48000


def _sine(frequency, seconds, amplitude=1.0, rate=RATE, phase=0.0):
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    return amplitude * torch.sin(2 * math.pi * frequency * time + phase)


def _stereo(mono):
    return mono.repeat(1, 2, 1)


def _decibels(value):
    return 10 ** (value / 20)


def test_k_weighting_has_the_standard_s_coefficients_at_48_khz():
    """BS.1770-5, annex 1, tables 1 and 2."""
    shelf = [1.53512485958697, -2.69169618940638, 1.19839281085285, 1, -1.69065929318241, 0.73248077421585]
    highpass = [1, -2, 1, 1, -1.99004745483398, 0.99007225036621]
    assert k_weighting(48000)[0].tolist() == pytest.approx(shelf, abs=1e-12)
    assert k_weighting(48000)[1].tolist() == pytest.approx(highpass, abs=1e-12)


@pytest.mark.parametrize("rate", [32000, 44100, 48000, 96000])
def test_a_full_scale_sine_of_997_hz_has_minus_3_01_lkfs(rate):
    sine = _sine(997, 2, rate=rate)[None, None]
    assert integrated_loudness(sine, rate).item() == pytest.approx(-3.01, abs=0.03)
    assert integrated_loudness(_stereo(sine), rate).item() == pytest.approx(0, abs=0.03)
    assert integrated_loudness(sine * _decibels(-20), rate).item() == pytest.approx(-23.01, abs=0.03)


def test_the_relative_gate_of_ebu_tech_3341_case_3():
    """10 s at -36, 60 s at -23 and 10 s at -36 LUFS are -23 LUFS; without the gate -24.2."""
    levels = [(-36, 10), (-23, 60), (-36, 10)]
    clip = torch.cat([_sine(1000, seconds, _decibels(level), rate=16000) for level, seconds in levels])
    assert integrated_loudness(_stereo(clip[None, None]), 16000).item() == pytest.approx(-23, abs=0.1)


def test_the_absolute_gate_of_ebu_tech_3341_case_4():
    """-72, -36, -23, -36 and -72 LUFS are -23 LUFS: the outer ones fall to the absolute gate."""
    levels = [(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)]
    clip = torch.cat([_sine(1000, seconds, _decibels(level), rate=16000) for level, seconds in levels])
    assert integrated_loudness(_stereo(clip[None, None]), 16000).item() == pytest.approx(-23, abs=0.1)


def test_what_passes_no_gate_has_no_loudness():
    quiet = _sine(1000, 1, _decibels(-75))[None, None]
    loud = _sine(1000, 1)[None, None]
    assert integrated_loudness(quiet, RATE).item() == -math.inf
    assert integrated_loudness(torch.zeros(1, 1, RATE), RATE).item() == -math.inf
    with pytest.raises(ValueError, match=r"`reference` is silent in clips \[1\]"):
        loudness_difference(torch.cat([loud, loud]), torch.cat([loud, quiet]), RATE)
    with pytest.raises(ValueError, match=r"`prediction` is silent in clips \[0\]"):
        true_peak_difference(torch.zeros_like(loud), loud, RATE)


@pytest.mark.parametrize(
    ("divisor", "phase"),
    [(4, 0), (4, 45), (6, 60), (8, 67.5)],
    ids=["case 15", "case 16", "case 17", "case 18"],
)
def test_true_peaks_of_ebu_tech_3341(divisor, phase):
    """Sines of amplitude 0.5, whose samples miss the crest, have -6 dBTP, tolerance +0.2 and -0.4."""
    sine = _sine(RATE / divisor, 0.5, 0.5, phase=math.radians(phase))
    fade = torch.linspace(0, 1, 2400)
    sine[:2400] *= fade
    sine[-2400:] *= fade.flip(0)
    assert -6.4 < true_peak(sine[None, None], RATE).item() < -5.8


def test_true_peak_is_above_the_samples_and_of_the_loudest_channel():
    sine = _sine(RATE / 4, 0.1, phase=math.pi / 4)
    clip = torch.stack([0.1 * sine, 0.5 * sine])[None]
    samples = 20 * math.log10(clip.abs().max().item())
    assert samples == pytest.approx(-9.03, abs=0.01)
    assert true_peak(clip, RATE).item() > samples + 2.8
    impulse = torch.zeros(1, 1, 1000)
    impulse[..., 500] = -0.5
    assert true_peak(impulse, RATE).item() == pytest.approx(-6.02, abs=0.05)


@pytest.mark.parametrize("metric", [loudness_difference, true_peak_difference])
def test_differences_are_prediction_minus_reference_clip_by_clip(metric):
    reference = _sine(997, 0.5, 0.25)[None, None].repeat(2, 1, 1)
    prediction = reference * torch.tensor([_decibels(6), _decibels(-2)])[:, None, None]
    each = metric(prediction, reference, RATE, reduction="none")
    assert each.tolist() == pytest.approx([6, -2], abs=1e-4)
    assert metric(prediction, reference, RATE).item() == pytest.approx(2, abs=1e-4)
    alone = [metric(prediction[i : i + 1], reference[i : i + 1], RATE).item() for i in range(2)]
    assert each.tolist() == pytest.approx(alone)
    assert metric(reference, prediction, RATE).item() == pytest.approx(-2, abs=1e-4)


def test_wrong_waveforms_are_refused():
    with pytest.raises(ValueError, match="400 ms, 19200 samples"):
        integrated_loudness(torch.zeros(1, 1, 19199), RATE)
    with pytest.raises(ValueError, match="one or two channels, got 6"):
        integrated_loudness(torch.zeros(1, 6, RATE), RATE)
    with pytest.raises(ValueError, match="`sampling_rate` must be > 0 Hz"):
        true_peak(torch.zeros(1, 1, 10), 0)
    with pytest.raises(ValueError, match="one shape"):
        loudness_difference(torch.zeros(1, 1, RATE), torch.zeros(1, 2, RATE), RATE)
