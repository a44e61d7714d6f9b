"""The linear path around the CNN: principal components, and a model that starts from them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from star_hf import AutoencoderStar
from star_hf.autoencoder.shortcut import LinearShortcut

IN_CHANNELS, LATENT_CHANNELS, PATCH = 3, 4, 2
GAIN, OFFSET = 3.0, -2.0


def correlated_features(batch: int = 4, steps: int = 200) -> torch.Tensor:
    """Features `(batch, channels, steps)` of unequal variance around a mean for each channel."""
    generator = torch.Generator().manual_seed(3)
    mixing = torch.randn(IN_CHANNELS, IN_CHANNELS, generator=generator)
    features = mixing @ torch.randn(batch, IN_CHANNELS, steps, generator=generator).cumsum(-1) / 5
    return features + torch.tensor([1.0, -2.0, 0.5])[:, None]


def as_patches(features: torch.Tensor) -> np.ndarray:
    """`(batch · frames, channels · patch)`, in float64."""
    batch, channels, steps = features.shape
    patches = features.double().numpy().reshape(batch, channels, steps // PATCH, PATCH)
    return patches.transpose(0, 2, 1, 3).reshape(-1, channels * PATCH)


@pytest.fixture
def fitted():
    """A shortcut with as many other outputs as features, the features in two batches, and the kept share."""
    features = correlated_features()
    shortcut = LinearShortcut(IN_CHANNELS, 2 * IN_CHANNELS, LATENT_CHANNELS, PATCH)
    return shortcut, features, shortcut.fit(features.split(3), GAIN, OFFSET)


@torch.no_grad()
def test_latents_are_white_over_the_fitting_data(fitted):
    shortcut, features, _ = fitted
    latents = shortcut.to_latents(features)
    assert latents.shape == (4, LATENT_CHANNELS, 100)
    latents = latents.transpose(1, 2).flatten(0, 1).double()
    torch.testing.assert_close(
        latents.mean(0), torch.zeros(LATENT_CHANNELS, dtype=torch.float64), rtol=0, atol=1e-4
    )
    covariance = torch.cov(latents.T, correction=0)
    torch.testing.assert_close(covariance, torch.eye(LATENT_CHANNELS).double(), rtol=0, atol=1e-3)


@torch.no_grad()
def test_latents_are_the_principal_components_by_singular_values(fitted):
    shortcut, features, kept = fitted
    patches = as_patches(features)
    centred = patches - patches.mean(0)
    _, singular_values, components = np.linalg.svd(centred, full_matrices=False)
    scores = centred @ components[:LATENT_CHANNELS].T
    scores *= math.sqrt(len(patches)) / singular_values[:LATENT_CHANNELS]
    latents = shortcut.to_latents(features).transpose(1, 2).flatten(0, 1).double().numpy()
    # The strongest component comes first; signs are arbitrary.
    correlation = np.abs((latents * scores).mean(0))
    np.testing.assert_allclose(correlation, 1, atol=1e-3)
    variances = singular_values**2
    assert float(kept) == pytest.approx(variances[:LATENT_CHANNELS].sum() / variances.sum(), rel=1e-5)
    assert 0.5 < float(kept) < 0.9999


@torch.no_grad()
def test_there_and_back_is_the_projection_onto_the_components(fitted):
    shortcut, features, _ = fitted
    patches = as_patches(features)
    mean = patches.mean(0)
    components = np.linalg.svd(patches - mean, full_matrices=False)[2][:LATENT_CHANNELS]
    # The bias of a transposed convolution is one for all steps of a patch.
    channel_mean = np.repeat(mean.reshape(IN_CHANNELS, PATCH).mean(1), PATCH)
    projected = (patches - mean) @ components.T @ components + channel_mean
    restored = shortcut.from_latents(shortcut.to_latents(features))
    assert restored.shape == (4, 2 * IN_CHANNELS, 200)
    np.testing.assert_allclose(
        as_patches(restored[:, :IN_CHANNELS]), GAIN * projected + OFFSET, rtol=0, atol=1e-4
    )
    assert not restored[:, IN_CHANNELS:].any()


@torch.no_grad()
def test_as_many_latents_as_values_lose_nothing():
    features = correlated_features()
    shortcut = LinearShortcut(IN_CHANNELS, IN_CHANNELS, IN_CHANNELS * PATCH, PATCH)
    assert float(shortcut.fit([features], 1.0, 0.0)) == pytest.approx(1, abs=1e-6)
    restored = shortcut.from_latents(shortcut.to_latents(features))
    error = as_patches(restored - features)
    # The bias of a transposed convolution is one for all steps of a patch.
    assert error.std(0).max() < 1e-4 and np.abs(error).max() < 0.1


@torch.no_grad()
def test_batches_make_no_difference():
    features = correlated_features()
    weights = []
    for batches in ([features], features.split(1)):
        shortcut = LinearShortcut(IN_CHANNELS, IN_CHANNELS, LATENT_CHANNELS, PATCH)
        shortcut.fit(iter(batches), GAIN, OFFSET)
        weights.append(torch.cat([parameter.flatten() for parameter in shortcut.parameters()]).abs())
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-4, atol=1e-4)


def test_a_shortcut_that_is_not_fitted_contributes_nothing():
    shortcut = LinearShortcut(IN_CHANNELS, IN_CHANNELS, LATENT_CHANNELS, PATCH)
    assert not any(parameter.any() for parameter in shortcut.parameters())


@pytest.mark.parametrize(
    ("steps", "count"), [(10, 5), (0, 0)], ids=["one patch less than values", "no patch"]
)
def test_too_few_patches_are_refused(steps, count):
    shortcut = LinearShortcut(IN_CHANNELS, IN_CHANNELS, LATENT_CHANNELS, PATCH)
    batches = [correlated_features(1, steps)] if steps else []
    with pytest.raises(ValueError, match=f"at least 6 patches.*not {count}"):
        shortcut.fit(batches, GAIN, OFFSET)
    assert not any(parameter.any() for parameter in shortcut.parameters())


def test_more_latents_than_values_are_refused():
    shortcut = LinearShortcut(IN_CHANNELS, IN_CHANNELS, 7, PATCH)
    with pytest.raises(ValueError, match="`latent_channels` must be at most 6.*not 7"):
        shortcut.fit([correlated_features()], GAIN, OFFSET)


@pytest.fixture
def waveforms():
    """Two batches of noise whose level wanders, 32 samples per hop."""
    generator = torch.Generator().manual_seed(4)
    level = torch.randn(2, 3, 1, 64, generator=generator).cumsum(-1).mul(0.3).exp()
    return level.repeat_interleave(32, -1) * torch.randn(2, 3, 2, 64 * 32, generator=generator)


@pytest.fixture
def started(small_config, noise_excited, waveforms):
    """A new autoencoder, nothing randomized, that starts as the linear codec of `waveforms`."""
    torch.manual_seed(5)
    autoencoder = AutoencoderStar(**{**small_config, "context_type": "mamba", **noise_excited})
    kept = autoencoder.fit_linear_shortcut(waveforms)
    assert 0.1 < float(kept) < 1
    return autoencoder


@torch.no_grad()
@pytest.mark.parametrize("folded", [False, True])
def test_after_the_fit_the_cnn_contributes_exactly_nothing(started, waveforms, folded):
    autoencoder, waveform = started, waveforms[0]
    if folded:
        autoencoder.fold_weight_norm()
    features = autoencoder.filterbank.analyze(waveform)
    posterior = autoencoder.encode(waveform).latent_dist
    latents = autoencoder.shortcut.to_latents(features)
    assert torch.equal(posterior.mean, latents)
    sharp = torch.full_like(posterior.std, math.log1p(math.exp(-3)) + 1e-4)
    torch.testing.assert_close(posterior.std, sharp)
    linear = autoencoder.filterbank.synthesize(autoencoder.shortcut.from_latents(latents))
    assert torch.equal(autoencoder.decode(latents).sample, linear)
    assert linear.any()


@torch.no_grad()
def test_the_fit_drops_folded_weights(small_config, noise_excited, waveforms):
    autoencoder = AutoencoderStar(**{**small_config, "context_type": "none", **noise_excited}).eval()
    autoencoder.fold_weight_norm().fit_linear_shortcut(waveforms)
    latents = autoencoder.shortcut.to_latents(autoencoder.filterbank.analyze(waveforms[0]))
    assert torch.equal(autoencoder.encode(waveforms[0]).latent_dist.mean, latents)


@torch.no_grad()
def test_latents_of_the_fitting_data_are_standardized(started, waveforms):
    latents = started.encode(waveforms.flatten(0, 1)).latent_dist.mean.transpose(0, 1).flatten(1)
    torch.testing.assert_close(latents.mean(1), torch.zeros(3), rtol=0, atol=1e-4)
    torch.testing.assert_close(torch.cov(latents, correction=0), torch.eye(3), rtol=0, atol=1e-3)


@torch.no_grad()
def test_a_linear_codec_of_the_lapped_bands_is_their_best_reconstruction(small_config, waveforms):
    """Through the orthonormal transform, the lost energy is the lost variance."""
    autoencoder = AutoencoderStar(
        **{**small_config, "context_type": "none", "filterbank_bands": 4, "linear_shortcut": True}
    )
    kept = autoencoder.fit_linear_shortcut(waveforms)
    audio = waveforms.flatten(0, 1)
    lost = (autoencoder(audio).sample - audio).square().sum() / audio.square().sum()
    assert float(lost) == pytest.approx(1 - float(kept), abs=0.01)
    assert 0.01 < float(kept) < 0.99


def test_gradients_reach_the_gains_of_the_cnns_outputs(started, waveforms):
    output = started.train()(waveforms[0], sample_posterior=True)
    (output.sample - waveforms[0]).abs().mean().backward()
    for convolution in (started.encoder.conv2, started.decoder.conv2):
        assert not convolution.weight_g.any()
        assert convolution.weight_g.grad.abs().min() > 0
    for parameter in started.shortcut.parameters():
        assert parameter.grad.any()


def test_a_step_lets_the_cnn_take_part(started, waveforms):
    optimizer = torch.optim.Adam(started.parameters(), lr=1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        started(waveforms[0]).sample.abs().mean().backward()
        optimizer.step()
    gradient = started.decoder.block[0].conv_t1.weight_v.grad
    assert gradient.any() and torch.isfinite(gradient).all()


def test_a_model_without_a_shortcut_refuses_the_fit(make_small, waveforms):
    with pytest.raises(ValueError, match="`fit_linear_shortcut` needs.*`linear_shortcut=True`"):
        make_small(filterbank_bands=4).fit_linear_shortcut(waveforms)


def test_too_few_waveforms_are_refused_and_leave_the_model_alone(make_small, noise_excited):
    autoencoder = make_small(**noise_excited)
    state = {name: tensor.clone() for name, tensor in autoencoder.state_dict().items()}
    # A patch has 2 channels · 4 bands · 8 blocks = 64 values.
    with pytest.raises(ValueError, match="at least 64 patches.*not 63"):
        autoencoder.fit_linear_shortcut([torch.randn(1, 2, 63 * 32)])
    assert all(torch.equal(autoencoder.state_dict()[name], tensor) for name, tensor in state.items())
