"""Reconstruction distances equal auraloss, are per clip, and tell prediction from reference."""

import math
from pathlib import Path

import evaluate
import numpy as np
import pytest
import torch
from auraloss.freq import MultiResolutionSTFTLoss
from auraloss.time import SISDRLoss

import star_hf.evaluation
from star_hf.evaluation import mel_distance, si_sdr, stft_distance

METRICS = Path(star_hf.evaluation.__file__).parent / "metrics"


def _clips(batch=2, channels=2, samples=6000):
    """References, and predictions that are louder and noisy, the second clip more than the first."""
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(samples) / 44100
    reference = 0.3 * torch.sin(2 * math.pi * 440 * time) + 0.05 * torch.randn(
        batch, channels, samples, generator=generator
    )
    noise = torch.randn(batch, channels, samples, generator=generator)
    strength = torch.linspace(0.02, 0.2, batch)[:, None, None]
    return 1.3 * reference + strength * noise, reference


def _slaney_mel(hertz):
    """Slaney's mel scale: linear (3 mel per 200 Hz) up to 1 kHz, then logarithmic."""
    return np.where(
        hertz < 1000, 3 * hertz / 200, 15 + np.log(np.maximum(hertz, 1000) / 1000) * 27 / np.log(6.4)
    )


def _slaney_filters(sampling_rate, fft_size, bands):
    """Triangles of unit area between band edges that are equally spaced on the mel scale."""
    grid = np.linspace(0, sampling_rate / 2, 200_001)
    targets = np.linspace(0, _slaney_mel(sampling_rate / 2), bands + 2)
    edges = np.interp(targets, _slaney_mel(grid), grid)
    bins = np.linspace(0, sampling_rate / 2, fft_size // 2 + 1)
    rising = (bins[None] - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins[None]) / np.diff(edges)[1:, None]
    triangles = np.maximum(0, np.minimum(rising, falling))
    return torch.from_numpy(triangles * (2 / (edges[2:] - edges[:-2]))[:, None]).float()


@pytest.mark.parametrize("channels", [1, 2])
def test_stft_distance_equals_auraloss_clip_by_clip(channels):
    prediction, reference = _clips(channels=channels)
    expected = [
        MultiResolutionSTFTLoss()(prediction[i : i + 1], reference[i : i + 1]).item() for i in range(2)
    ]

    assert stft_distance(prediction, reference, reduction="none").tolist() == pytest.approx(
        expected, abs=1e-4
    )
    assert stft_distance(prediction, reference).item() == pytest.approx(np.mean(expected), abs=1e-4)


@pytest.mark.parametrize("sampling_rate", [16000, 44100])
def test_mel_distance_equals_its_definition(sampling_rate):
    """The definition of auraloss' MelSTFTLoss on filters in closed form (its own need librosa)."""
    prediction, reference = _clips()
    filters = _slaney_filters(sampling_rate, 1024, 128)
    expected = []
    for clip in range(2):
        magnitudes = []
        for waveform in (prediction[clip], reference[clip]):
            spectrum = torch.stft(waveform, 1024, 256, window=torch.hann_window(1024), return_complex=True)
            magnitudes.append(filters @ spectrum.abs().clamp(min=1e-4))
        p, r = magnitudes
        expected.append(((r - p).norm() / r.norm() + (r.log() - p.log()).abs().mean()).item())

    actual = mel_distance(prediction, reference, sampling_rate, reduction="none")
    assert actual.tolist() == pytest.approx(expected, abs=1e-4)


def test_mel_distance_equals_auraloss():
    pytest.importorskip("librosa")
    from auraloss.freq import MelSTFTLoss

    prediction, reference = _clips(batch=1)
    expected = MelSTFTLoss(44100)(prediction, reference).item()
    assert mel_distance(prediction, reference).item() == pytest.approx(expected, abs=1e-4)


def test_si_sdr_equals_auraloss():
    prediction, reference = _clips()
    expected = -SISDRLoss()(prediction, reference).item()
    assert si_sdr(prediction, reference).item() == pytest.approx(expected, abs=1e-3)


def test_si_sdr_ignores_scale_and_measures_noise():
    generator = torch.Generator().manual_seed(1)
    reference = torch.randn(1, 1, 200_000, generator=generator)
    noise = torch.randn(1, 1, 200_000, generator=generator)

    assert si_sdr(reference + 0.1 * noise, reference).item() == pytest.approx(20, abs=0.1)
    assert si_sdr(5 * (reference + 0.1 * noise), reference).item() == pytest.approx(20, abs=0.1)


@pytest.mark.parametrize("metric", [stft_distance, mel_distance])
def test_distance_is_zero_for_equal_clips_and_asymmetric(metric):
    prediction, reference = _clips()
    assert metric(reference, reference).item() == 0
    # Swapped arguments normalize by the wrong signal.
    assert abs(metric(prediction, reference) - metric(reference, prediction)) > 0.02


@pytest.mark.parametrize("metric", [stft_distance, mel_distance, si_sdr])
def test_value_of_a_clip_does_not_depend_on_the_batch(metric):
    prediction, reference = _clips(batch=3)
    together = metric(prediction, reference, reduction="none")
    alone = [metric(prediction[i : i + 1], reference[i : i + 1]).item() for i in range(3)]
    assert together.tolist() == pytest.approx(alone, rel=1e-4)
    assert metric(prediction, reference).item() == pytest.approx(np.mean(alone), rel=1e-4)
    assert len(set(alone)) == 3


@pytest.mark.parametrize("metric", [stft_distance, mel_distance, si_sdr])
@pytest.mark.parametrize(
    ("prediction", "reference", "error", "message"),
    [
        (torch.zeros(1, 2, 4000), torch.zeros(1, 1, 4000), ValueError, "one shape"),
        (torch.zeros(1, 1, 4000), torch.zeros(1, 1, 4001), ValueError, "one shape"),
        (torch.zeros(4000), torch.zeros(4000), ValueError, "`prediction` must be"),
        (torch.zeros(1, 1, 0), torch.zeros(1, 1, 0), ValueError, "samples > 0"),
        (torch.zeros(1, 1, 4000), torch.full((1, 1, 4000), torch.nan), ValueError, "`reference` holds NaN"),
        (torch.zeros(1, 1, 4000, dtype=torch.int16), torch.zeros(1, 1, 4000), TypeError, "int16"),
        (np.zeros((1, 1, 4000)), torch.zeros(1, 1, 4000), TypeError, "ndarray"),
    ],
)
def test_wrong_waveforms_are_refused(metric, prediction, reference, error, message):
    with pytest.raises(error, match=message):
        metric(prediction, reference)


def test_clips_too_short_for_the_transform_are_refused():
    short = torch.randn(1, 1, 1024)
    with pytest.raises(ValueError, match="1024 samples"):
        stft_distance(short, short)
    assert stft_distance(torch.randn(1, 1, 1025), torch.randn(1, 1, 1025)) > 0


def test_silence():
    """Silence has a distance, since magnitudes are clamped; a silent reference has no SI-SDR."""
    waveform, silence = _clips(batch=1)[0], torch.zeros(1, 2, 6000)
    assert stft_distance(silence, silence).item() == 0
    assert torch.isfinite(stft_distance(waveform, silence))
    assert si_sdr(silence, waveform).item() == pytest.approx(-80)
    with pytest.raises(ValueError, match=r"silent in clips \[0\]"):
        si_sdr(waveform, silence)


def test_other_wrong_arguments_are_refused():
    prediction, reference = _clips()
    with pytest.raises(ValueError, match="`reduction`"):
        stft_distance(prediction, reference, reduction="sum")
    with pytest.raises(ValueError, match="96000 Hz"):
        mel_distance(prediction, reference, 96000)
    with pytest.raises(ValueError, match="`sampling_rate` must be > 0"):
        mel_distance(prediction, reference, 0)


@pytest.mark.parametrize(
    ("name", "function", "options"),
    [
        ("stft_distance", stft_distance, {}),
        ("mel_distance", mel_distance, {"sampling_rate": 16000}),
        ("si_sdr", si_sdr, {}),
    ],
)
def test_evaluate_modules_load_from_their_folder(name, function, options, tmp_path):
    """Clips of different length and layout, as `evaluate` collects them."""
    first, second = _clips(batch=1), _clips(batch=1, channels=1, samples=5000)
    metric = evaluate.load(str(METRICS / name), cache_dir=str(tmp_path))
    result = metric.compute(
        predictions=[first[0][0].numpy(), second[0][0].numpy()],
        references=[first[1][0].numpy(), second[1][0].numpy()],
        **options,
    )
    expected = (function(*first, **options) + function(*second, **options)) / 2
    assert result == {name: pytest.approx(expected.item(), rel=1e-4)}
