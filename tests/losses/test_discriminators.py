"""`MultiScaleSTFTDiscriminator` against a naive implementation, and what training asks of it."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from star_hf.losses import MultiScaleSTFTDiscriminator, feature_matching_loss, hinge_generator_loss


def make(**options):
    defaults = {"fft_sizes": (64, 32), "filters": 4}
    return MultiScaleSTFTDiscriminator(**{**defaults, **options})


def naive(discriminator, waveform, size):
    """Logits and features of the scale of `size`: torch.stft, and weights normalized by hand."""
    scale = next(scale for scale in discriminator.scales if scale.fft_size == size)
    batch, channels, samples = waveform.shape
    window = torch.hann_window(size, dtype=waveform.dtype)
    spectrum = torch.stft(
        waveform.flatten(0, 1), size, size // 4, window=window, center=False, return_complex=True
    ) / math.sqrt(window.square().sum())
    spectrum = spectrum.unflatten(0, (batch, channels)).transpose(-1, -2)
    x = torch.cat([spectrum.real, spectrum.imag], dim=1)

    def convolve(x, layer, dilation):
        gain, direction = (getattr(layer.parametrizations.weight, f"original{i}") for i in (0, 1))
        weight = gain * direction / direction.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()
        high, wide = (length // 2 for length in weight.shape[2:])
        x = F.pad(x, (wide, wide, dilation * high, dilation * high))
        return F.conv2d(x, weight, layer.bias, dilation=(dilation, 1))

    features = []
    for layer, dilation in zip(scale.hidden, (1, 1, 2, 4, 1), strict=True):
        x = convolve(x, layer, dilation)
        x = torch.where(x > 0, x, 0.2 * x)
        features.append(x)
    return convolve(x, scale.output, 1), features


def test_it_has_the_layers_of_stable_audio_open():
    discriminator = MultiScaleSTFTDiscriminator()
    assert sum(parameter.numel() for parameter in discriminator.parameters()) == 1_883_850
    assert [scale.fft_size for scale in discriminator.scales] == [2048, 1024, 512, 256, 128]
    assert [scale.hop for scale in discriminator.scales] == [512, 256, 128, 64, 32]


@pytest.mark.parametrize("channels", [1, 2])
def test_it_equals_a_naive_implementation(channels):
    discriminator = make(audio_channels=channels).double()
    waveform = torch.randn(2, channels, 150, dtype=torch.float64)
    output = discriminator(waveform)
    for index, size in enumerate((64, 32)):
        logits, features = naive(discriminator, waveform, size)
        assert logits.shape == (2, 1, (150 - size) // (size // 4) + 1, size // 2 + 1)
        torch.testing.assert_close(output.logits[index], logits, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(output.features[index], features, rtol=1e-6, atol=1e-9)


def test_its_gradient_equals_the_naive_implementations():
    discriminator = make().double()
    waveform = torch.randn(1, 2, 150, dtype=torch.float64, requires_grad=True)
    parameters = [waveform, *discriminator.parameters()]
    target = torch.randn(1, 2, 150, dtype=torch.float64)

    def gradients(judge):
        (logits, features), (_, wanted) = judge(waveform), judge(target)
        loss = hinge_generator_loss(logits) + feature_matching_loss(wanted, features)
        return torch.autograd.grad(loss, parameters)

    def judge_naively(x):
        return zip(*(naive(discriminator, x, size) for size in (64, 32)), strict=True)

    def judge(x):
        output = discriminator(x)
        return output.logits, output.features

    torch.testing.assert_close(gradients(judge), gradients(judge_naively), rtol=1e-6, atol=1e-9)


def test_white_noise_of_unit_power_has_a_spectrum_of_unit_power():
    waveform = torch.randn(1, 2, 20_000)
    for scale in make().scales:
        power = scale.spectrum(waveform).square().sum(dim=1) / 2  # of two channels
        assert power[..., 1:-1].mean().item() == pytest.approx(1.0, abs=0.05)


def test_clips_of_a_batch_do_not_see_each_other():
    discriminator = make()
    waveform = torch.randn(3, 2, 200)
    together = discriminator(waveform)
    alone = discriminator(waveform[1:2])
    torch.testing.assert_close([logits[1:2] for logits in together.logits], alone.logits)
    torch.testing.assert_close([[f[1:2] for f in scale] for scale in together.features], alone.features)


def test_gradients_pass_frozen_weights():
    discriminator = make().requires_grad_(False)
    waveform = torch.randn(1, 2, 200, requires_grad=True)
    hinge_generator_loss(discriminator(waveform).logits).backward()
    assert waveform.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in discriminator.parameters())


def test_a_few_steps_tell_two_sounds_apart():
    torch.manual_seed(0)
    discriminator = make()
    optimizer = torch.optim.AdamW(discriminator.parameters(), lr=1e-2)
    noise, tone = torch.randn(2, 2, 300), torch.sin(torch.arange(300) * 0.3).expand(2, 2, 300)
    for _ in range(20):
        real, generated = discriminator(noise).logits, discriminator(tone).logits
        loss = sum(F.relu(1 - r).mean() + F.relu(1 + g).mean() for r, g in zip(real, generated, strict=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(r.mean() > g.mean() + 1 for r, g in zip(real, generated, strict=True))


def test_bfloat16_autocast_is_near_float32_and_keeps_a_float32_spectrum():
    discriminator = make()
    waveform = torch.randn(1, 2, 400)
    exact = discriminator(waveform)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = discriminator(waveform)
        spectrum = discriminator.scales[0].spectrum(waveform)
        half_spectrum = discriminator.scales[0].spectrum(waveform.bfloat16())
    assert spectrum.dtype == half_spectrum.dtype == torch.float32
    torch.testing.assert_close(spectrum, discriminator.scales[0].spectrum(waveform), rtol=0, atol=0)
    for half, full in zip(output.features, exact.features, strict=True):
        for x, y in zip(half, full, strict=True):
            assert x.dtype == torch.bfloat16
            assert torch.linalg.vector_norm(x.float() - y) < 0.02 * torch.linalg.vector_norm(y)


def test_a_model_in_bfloat16_takes_any_waveform_and_keeps_a_float32_spectrum():
    waveform = torch.randn(1, 2, 200)
    spectrum = make().scales[0].spectrum(waveform)
    discriminator = make().bfloat16()
    torch.testing.assert_close(discriminator.scales[0].spectrum(waveform), spectrum, rtol=0, atol=0)
    for dtype in (torch.float32, torch.bfloat16):
        assert discriminator(waveform.to(dtype)).logits[0].dtype == torch.bfloat16


def test_features_are_channels_last():
    output = make()(torch.randn(2, 2, 200))
    for features in output.features:
        assert all(x.is_contiguous(memory_format=torch.channels_last) for x in features)


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (torch.zeros(1, 2, 63), "at least 64 samples, the longest window, not 63"),
        (torch.zeros(1, 1, 100), r"\(batch, 2 channels, samples\), not of shape \(1, 1, 100\)"),
        (torch.zeros(2, 100), r"not of shape \(2, 100\)"),
    ],
)
def test_it_refuses_waveforms_it_cannot_judge(waveform, message):
    with pytest.raises(ValueError, match=message):
        make()(waveform)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hop_ratio": 0.3}, "`hop_ratio` must be one over a whole number, not 0.3"),
        ({"fft_sizes": ()}, "`fft_sizes` must be even multiples of 4"),
        ({"fft_sizes": (64, 30)}, "`fft_sizes` must be even multiples of 4"),
        ({"kernel_size": (3, 8)}, "`kernel_size` must be two odd numbers"),
        ({"dilations": (1, 0)}, "`dilations` must be at least 1"),
    ],
)
def test_it_refuses_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)
