"""What the probes are to find: known pitches and known pannings, at the latents' frames."""

import math

import pytest
import torch

from star_hf.losses.regressors import SignalRegressors, chromagram, level_difference

RATE = 44100
SAMPLES = 32768


def sine(frequency, samples=SAMPLES, amplitude=0.5):
    return amplitude * torch.sin(2 * math.pi * frequency * torch.arange(samples).double() / RATE).float()


@pytest.mark.parametrize("octave", [1.0, 5.0, 9.0])
@pytest.mark.parametrize(("frequency", "semitones"), [(440.0, 0), (880.0, 0), (440 * 2 ** (4 / 12), 4)])
def test_the_peak_of_a_sine_is_at_its_pitch_class(frequency, semitones, octave):
    chroma = chromagram(sine(frequency)[None, None], RATE, 16, octave=octave)
    assert chroma.shape == (1, 128, 16)
    away = (chroma[0].argmax(dim=0) - semitones * 128 / 12 + 64) % 128 - 64
    # an FFT bin of 5.4 Hz is 2.3 of 128 pitch classes at 440 Hz
    assert away.abs().max() <= 2.4
    assert torch.equal(chroma.amax(dim=1), torch.ones(1, 16))


def test_octaves_decide_what_is_heard():
    """Of a low A and a high D sharp, half an octave off, each octave's filters hear the nearer."""
    both = (sine(55.0) + sine(7040 * 2**0.5))[None, None]
    for octave, heard in ((1.0, 0), (9.0, 64)):
        chroma = chromagram(both, RATE, 1, octave=octave)[0, :, 0]
        # an FFT bin of 5.4 Hz is 18 of 128 pitch classes at 55 Hz
        near, far = (chroma.roll(20 - place)[:41].max() for place in (heard, heard + 64))
        assert near == 1 and far < 0.1


def test_the_weight_of_an_octave_is_a_gaussian():
    """exp(-(x - octave)²/2w²) for sounds at x octaves above 27.5 Hz, here at 5 and 7.5."""
    both = (sine(880.0) + sine(880 * 2**2.5))[None, None]

    def ratio(octave):
        chroma = chromagram(both, RATE, 1, octave=octave, octave_width=2.5)[0, :, 0]
        low, high = (chroma.roll(16 - place)[:33].sum() for place in (0, 64))
        return float(high / low)

    exponent = (-(1.5**2) + 1.0**2 + 2.5**2) / (2 * 2.5**2)
    assert ratio(6.0) / ratio(5.0) == pytest.approx(math.exp(exponent), rel=0.01)


def test_chroma_ignores_level_and_panning_and_silence_is_zero():
    waveform = sine(300.0)[None, None]
    chroma = chromagram(waveform, RATE, 8)
    torch.testing.assert_close(chromagram(0.1 * waveform, RATE, 8), chroma)
    stereo = torch.cat([waveform, -0.3 * waveform], dim=1)
    torch.testing.assert_close(chromagram(stereo, RATE, 8), chroma, rtol=1e-4, atol=1e-5)
    assert not chromagram(torch.zeros(1, 2, SAMPLES), RATE, 8).any()
    assert chromagram(1e-6 * waveform, RATE, 8).max() < 1e-3


@pytest.mark.parametrize("gain_db", [-12.0, 0.0, 6.0])
def test_the_level_difference_of_a_panned_signal_is_its_gain(gain_db):
    noise = 0.3 * torch.randn(2, 1, SAMPLES)
    panned = torch.cat([10 ** (gain_db / 20) * noise, noise], dim=1)
    difference = level_difference(panned, RATE, 16)
    assert difference.shape == (2, 32, 16)
    torch.testing.assert_close(difference, torch.full_like(difference, gain_db), rtol=1e-3, atol=5e-3)


def test_the_level_difference_is_by_band_and_bounded():
    low, high = sine(200.0), sine(9000.0)
    difference = level_difference(torch.stack([low, high])[None], RATE, 1)[0, :, 0]
    assert difference[:4].max() > 60 and difference[-8:].min() < -60 and difference.abs().max() < 85
    assert not level_difference(torch.zeros(1, 2, SAMPLES), RATE, 4).any()


@pytest.mark.parametrize("frames", [5, 16, 40])
def test_frames_divide_the_clip_evenly(frames):
    """A click in the middle of a part is loudest in that part's window, whatever the number of parts."""
    samples = 30000
    for frame in (0, frames // 2, frames - 1):
        clip = torch.zeros(1, 2, samples)
        clip[0, :, round((frame + 0.5) * samples / frames)] = 1.0
        clip[0, 0] *= 2.0
        # the shorter window shows the click in one part alone
        difference = level_difference(clip, RATE, frames, bands=2, fft_size=512)[0]
        assert difference.mean(dim=0).argmax() == frame
        assert (difference.amax(dim=0) > 3).sum() == 1


def test_targets_and_loss_by_hand():
    regressors = SignalRegressors(
        4, RATE, chroma_octaves=(1.0, 5.5), chroma_weights=(0.3, 0.2), num_chroma=24
    )
    waveform = 0.2 * torch.randn(2, 2, 9000).cumsum(-1) / 50
    targets = regressors.targets(waveform, 5)
    assert {name: value.shape for name, value in targets.items()} == {
        "chroma_1": (2, 24, 5),
        "chroma_5_5": (2, 24, 5),
        "level_difference": (2, 32, 5),
    }
    assert not any(value.requires_grad for value in targets.values())
    assert torch.equal(targets["chroma_5_5"], chromagram(waveform, RATE, 5, 24, 5.5))
    assert torch.equal(targets["level_difference"], level_difference(waveform, RATE, 5) / 20)
    latents = torch.randn(2, 4, 5, requires_grad=True)
    loss = regressors(latents, targets)
    expected = 0.0
    for name, weight in {"chroma_1": 0.3, "chroma_5_5": 0.2, "level_difference": 0.1}.items():
        probe = regressors.probes[name]
        found = torch.einsum("dc,bct->bdt", probe.weight[..., 0].double(), latents.double())
        found = found + probe.bias.double()[:, None]
        expected = expected + weight * (found - targets[name]).abs().mean()
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-7)
    loss.backward()
    assert latents.grad.abs().min() > 0
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(regressors(latents, targets), loss.detach())


def test_the_state_holds_the_probes_alone():
    regressors = SignalRegressors(8, RATE)
    regressors.targets(torch.zeros(1, 2, 4096), 2)
    assert {name: tuple(value.shape) for name, value in regressors.state_dict().items()} == {
        f"probes.{name}.{part}": shape
        for name, bins in (("chroma_1", 128), ("chroma_5", 128), ("chroma_9", 128), ("level_difference", 32))
        for part, shape in (("weight", (bins, 8, 1)), ("bias", (bins,)))
    }


def test_latents_that_hold_the_targets_can_be_read():
    """Minimizing the loss brings pitch and panning into free latents and the probes together."""
    waveform = torch.stack([torch.stack([sine(440.0), 0.2 * sine(440.0)]), torch.stack([sine(1000.0)] * 2)])
    regressors = SignalRegressors(6, RATE)
    targets = regressors.targets(waveform, 8)
    latents = torch.randn(2, 6, 8, requires_grad=True)
    optimizer = torch.optim.Adam([latents, *regressors.parameters()], lr=0.02)
    first = regressors(latents, targets).item()
    for _ in range(200):
        loss = regressors(latents, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.15 * first


def test_mono_has_no_level_difference():
    with pytest.raises(ValueError, match="`level_difference_weight` must be 0 for audio of 1 channels"):
        SignalRegressors(4, RATE, audio_channels=1)
    mono = SignalRegressors(4, RATE, audio_channels=1, level_difference_weight=0)
    targets = mono.targets(torch.randn(1, 1, 5000), 3)
    assert list(targets) == ["chroma_1", "chroma_5", "chroma_9"]
    assert mono(torch.randn(1, 4, 3), targets).item() > 0
    with pytest.raises(ValueError, match="`waveform` must have 2 channels for a level difference, not 1"):
        level_difference(torch.randn(1, 1, 5000), RATE, 3)


def test_what_is_computed_under_inference_mode_first_can_be_trained_with_later():
    # sizes that no other test has put into the cache
    waveform = torch.randn(1, 2, 3000)
    with torch.inference_mode():
        chromagram(waveform, RATE, 2, num_chroma=20, fft_size=1024)
    waveform.requires_grad_()
    chromagram(waveform, RATE, 2, num_chroma=20, fft_size=1024).square().sum().backward()
    assert waveform.grad.any()


def test_what_cannot_be_is_refused():
    for options, message in (
        ({"chroma_octaves": (1.0,)}, "as many as `chroma_weights`"),
        ({"chroma_octaves": (1.0, 1.0, 2.0)}, "`chroma_octaves` must be different"),
        ({"chroma_weights": (-1.0, 0.0, 0.0)}, "must be at least 0 and not all 0"),
        ({"chroma_weights": (0.0,) * 3, "level_difference_weight": 0.0}, "not all 0"),
        ({"fft_size": 511}, "`fft_size` must be even, not 511"),
        ({"bands": 0}, "`bands` must be an integer of at least 1, not 0"),
    ):
        with pytest.raises(ValueError, match=message):
            SignalRegressors(4, RATE, **options)
    regressors = SignalRegressors(4, RATE)
    targets = regressors.targets(torch.zeros(1, 2, 4096), 3)
    with pytest.raises(ValueError, match=r"`latents` must be \(batch, 4, frames\)"):
        regressors(torch.zeros(1, 5, 3), targets)
    with pytest.raises(ValueError, match=r"`targets\['chroma_1'\]` must be \(1, 128, 4\), not \(1, 128, 3\)"):
        regressors(torch.zeros(1, 4, 4), targets)
    with pytest.raises(ValueError, match="`targets` must be "):
        regressors(torch.zeros(1, 4, 3), {"chroma_1": targets["chroma_1"]})
    for wrong in ({"frames": 0}, {"octave_width": 0.0}, {"sampling_rate": 44100.0}):
        with pytest.raises(ValueError, match=f"`{next(iter(wrong))}` must be"):
            chromagram(torch.zeros(1, 1, 100), **{"sampling_rate": RATE, "frames": 2, **wrong})
    with pytest.raises(ValueError, match=r"`waveform` must be \(batch, channels, samples\)"):
        chromagram(torch.zeros(2, 100), RATE, 2)
