"""`with_bottleneck`: the same means and reconstructions under another bottleneck."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

SETTINGS = {"gaussian": {}, "sigma": {"sigma": 0.4}, "soft_normalization": {}}
PAIRS = list(itertools.permutations(SETTINGS, 2))


@pytest.fixture
def make_bottleneck(make_small):
    def make(bottleneck, **config):
        model = make_small(bottleneck=bottleneck, **SETTINGS[bottleneck], **config)
        if model.normalization is not None:
            model.normalization.scale.data.uniform_(-2, 2)
            model.normalization.running_std.fill_(1.6)
        return model

    return make


@torch.no_grad()
@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_means_and_reconstructions_stay(make_bottleneck, front_end, old, new):
    model = make_bottleneck(old, **front_end)
    x, z = torch.randn(2, 2, 100), torch.randn(2, 3, 5)
    converted = model.with_bottleneck(new, **SETTINGS[new])
    assert converted.config.bottleneck == new and model.config.bottleneck == old
    mean, expected = converted.encode(x).latent_dist.mean, model.encode(x).latent_dist.mean
    sample, decoded = converted.decode(z).sample, model.decode(z).sample
    if old == "soft_normalization":
        torch.testing.assert_close(mean, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(sample, decoded, rtol=1e-4, atol=1e-5)
    else:
        assert torch.equal(mean, expected) and torch.equal(sample, decoded)


@pytest.mark.parametrize("old", ["sigma", "soft_normalization"])
def test_new_scales_start_sharp_for_every_input_and_can_be_learned(make_bottleneck, old):
    model = make_bottleneck(old).with_bottleneck("gaussian").train()
    posterior = model.encode(torch.randn(2, 2, 100)).latent_dist
    sharp = math.log1p(math.exp(-3)) + 1e-4
    torch.testing.assert_close(posterior.std, torch.full_like(posterior.std, sharp))
    (posterior.std * torch.randn_like(posterior.std)).sum().backward()
    gradient = model.encoder.conv2.weight_g.grad[3:]
    assert torch.isfinite(gradient).all() and (gradient != 0).all()
    assert (model.encoder.conv2.bias.grad[3:] != 0).all()


@torch.no_grad()
def test_going_there_and_back_keeps_the_means(make_bottleneck, front_end):
    model, x = make_bottleneck("gaussian", **front_end), torch.randn(1, 2, 60)
    there = model.with_bottleneck("soft_normalization").with_bottleneck("sigma", sigma=1.0)
    back = there.with_bottleneck("gaussian")
    assert set(back.state_dict()) == set(model.state_dict())
    assert torch.equal(back.encode(x).latent_dist.mean, model.encode(x).latent_dist.mean)


@torch.no_grad()
def test_the_old_model_is_left_alone(make_bottleneck):
    model, x = (
        make_bottleneck("soft_normalization", filterbank_bands=4, linear_shortcut=True),
        torch.ones(1, 2, 60),
    )
    before, expected = {k: v.clone() for k, v in model.state_dict().items()}, model(x).sample
    converted = model.with_bottleneck("gaussian")
    for tensor in (*converted.parameters(), *converted.buffers()):
        tensor.zero_()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(model(x).sample, expected)


@torch.no_grad()
def test_folded_weights_are_not_taken_along(make_bottleneck):
    model, x = make_bottleneck("soft_normalization"), torch.randn(1, 2, 60)
    expected = model(x).sample
    converted = model.fold_weight_norm().with_bottleneck("gaussian")
    torch.testing.assert_close(converted(x).sample, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model(x).sample, expected, rtol=1e-6, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_device_precision_and_mode_stay(make_bottleneck, old, new, tmp_path):
    model = make_bottleneck(old).double().train()
    model.encoder.requires_grad_(False)
    converted = model.with_bottleneck(new, **SETTINGS[new])
    assert {tensor.dtype for tensor in converted.state_dict().values()} == {torch.float64}
    assert all(module.training for module in converted.modules())
    assert not any(parameter.requires_grad for parameter in converted.encoder.parameters())
    converted.save_pretrained(tmp_path)
    loaded = type(converted).from_pretrained(tmp_path, torch_dtype=torch.float64)
    x = torch.randn(1, 2, 60, dtype=torch.float64)
    assert torch.equal(loaded.encode(x).latent_dist.mean, converted.eval().encode(x).latent_dist.mean)


def test_settings_stay_statistics_of_other_noise_do_not(make_bottleneck):
    statistics = {"latents_mean": [0.0] * 3, "latents_std": [1.0] * 3}
    model = make_bottleneck("sigma", latent_noise=0.1, regularizer={"name": "a"}, **statistics)
    same = model.with_bottleneck("sigma", regularizer={"name": "b"}).config
    assert (same.sigma, same.latent_noise, same.regularizer) == (0.4, 0.1, {"name": "b"})
    assert {name: same[name] for name in statistics} == statistics
    for other in (
        model.with_bottleneck("sigma", sigma=0.5, latent_noise=0.0),
        model.with_bottleneck("soft_normalization", latent_noise=0.0),
    ):
        assert other.config.latents_mean is None and other.config.latents_std is None
        assert other.config.latent_noise == 0 and other.config.regularizer == {"name": "a"}
    assert model.config.latents_std == [1.0] * 3


def test_other_settings_are_refused(make_bottleneck):
    with pytest.raises(TypeError, match="`settings` may be sigma, latent_noise and regularizer, not beta"):
        make_bottleneck("gaussian").with_bottleneck("sigma", sigma=0.5, beta=1.0)
