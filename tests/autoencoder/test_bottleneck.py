"""The bottlenecks of `AutoencoderStar`: what they give, how they train, and noise in decoding."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from diffusers import AutoencoderOobleck

from star_hf import AutoencoderStar
from star_hf.autoencoder import DeterministicPosterior, DiagonalGaussianPosterior, FixedSigmaPosterior

CONFIGS = {
    "gaussian": {"bottleneck": "gaussian"},
    "sigma": {"bottleneck": "sigma", "sigma": 0.4},
    "soft_normalization": {"bottleneck": "soft_normalization"},
}
POSTERIORS = {
    "gaussian": DiagonalGaussianPosterior,
    "sigma": FixedSigmaPosterior,
    "soft_normalization": DeterministicPosterior,
}
both_new = pytest.mark.parametrize("bottleneck", ["sigma", "soft_normalization"])
every = pytest.mark.parametrize("bottleneck", list(CONFIGS))


@pytest.fixture
def make_bottleneck(make_small, randomized):
    """Builds a small autoencoder with a bottleneck whose every number matters."""

    def make(bottleneck, context_type="none", **config):
        model = make_small(context_type, **{**CONFIGS[bottleneck], **config})
        if model.normalization is not None:
            model.normalization.scale.data.uniform_(0.5, 2)
            model.normalization.running_std.fill_(1.6)
        return model

    return make


@torch.no_grad()
@every
def test_each_bottleneck_gives_its_posterior(make_bottleneck, bottleneck, front_end):
    model = make_bottleneck(bottleneck, **front_end)
    output = model(torch.randn(2, 2, 100), sample_posterior=True)
    posterior = output.latent_dist
    assert type(posterior) is POSTERIORS[bottleneck]
    assert posterior.mean.shape == posterior.std.shape and posterior.mean.shape[1] == 3
    assert output.sample.shape == (2, 2, 100)
    assert model.encoder.conv2.bias.shape == ((6,) if bottleneck == "gaussian" else (3,))
    if bottleneck == "sigma":
        assert posterior.std.unique().tolist() == pytest.approx([0.4])


@torch.no_grad()
def test_soft_normalization_stands_between_encoder_and_decoder(make_bottleneck):
    model = make_bottleneck("soft_normalization")
    x = torch.randn(2, 2, 100)
    latents = model.encode(x).latent_dist.mean
    scale, bias, deviation = model.normalization.state_dict().values()
    model.normalization = None
    inner = model.encode(x).latent_dist.mean
    torch.testing.assert_close(latents, (inner * scale + bias) / deviation)
    expected = model.decode(inner * scale + bias).sample
    restored = make_bottleneck("soft_normalization")
    torch.testing.assert_close(restored.decode(latents).sample, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@every
def test_a_checkpoint_restores_its_posterior_without_being_told(make_bottleneck, bottleneck, tmp_path):
    record = {"name": "star", "beta_min": 1e-4, "losses": {"stft": 1.0}}
    model = make_bottleneck(bottleneck, latent_noise=0.25, regularizer=record)
    model.save_pretrained(tmp_path)
    loaded = AutoencoderStar.from_pretrained(tmp_path)
    posterior, expected = (each.encode(torch.ones(1, 2, 50)).latent_dist for each in (loaded, model))
    assert type(posterior) is POSTERIORS[bottleneck]
    assert torch.equal(posterior.mean, expected.mean) and torch.equal(posterior.std, expected.std)
    z = torch.randn(1, 3, 4)
    samples = [each.decode(z, generator=torch.Generator().manual_seed(1)).sample for each in (loaded, model)]
    assert torch.equal(*samples)
    assert loaded.config.regularizer == record and loaded.config.latent_noise == 0.25
    assert loaded.config.sigma == CONFIGS[bottleneck].get("sigma")


def test_a_checkpoint_of_one_bottleneck_is_refused_as_another(make_bottleneck, tmp_path):
    make_bottleneck("soft_normalization").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="unexpected: normalization.bias, normalization.running_std"):
        AutoencoderStar.from_pretrained(tmp_path, bottleneck="sigma", sigma=1.0)


@torch.no_grad()
def test_checkpoints_from_before_there_was_a_choice_are_gaussian(make_small, tmp_path):
    model = make_small()
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for name in ("bottleneck", "sigma", "latent_noise", "regularizer"):
        del config[name]
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded, x = AutoencoderStar.from_pretrained(tmp_path), torch.randn(1, 2, 50)
    assert type(loaded.encode(x).latent_dist) is DiagonalGaussianPosterior
    assert torch.equal(loaded(x).sample, model(x).sample)


@torch.no_grad()
@both_new
def test_tiles_and_slices_change_nothing(make_bottleneck, bottleneck, front_end):
    model = make_bottleneck(bottleneck, "transformer", **front_end)
    x = torch.randn(3, 2, 40 * model.hop_length)
    latents = model.encode(x).latent_dist.mean
    sample = model.decode(latents).sample
    model.tile_frames = 9
    for enable in (model.enable_slicing, model.enable_tiling):
        enable()
        for parts, whole in (
            (model.encode(x).latent_dist.mean, latents),
            (model.decode(latents).sample, sample),
        ):
            assert (parts - whole).abs().max() < 1e-5 * whole.abs().max()


@both_new
def test_gradients_reach_every_parameter_and_checkpointing_keeps_them(make_bottleneck, bottleneck, front_end):
    model = make_bottleneck(bottleneck, **front_end).train()
    x = torch.randn(2, 2, 100)
    deviation = None if model.normalization is None else model.normalization.running_std.clone()

    def gradients():
        if deviation is not None:
            model.normalization.running_std.copy_(deviation)
        model.zero_grad()
        output = model(x, sample_posterior=True, generator=torch.Generator().manual_seed(0))
        (output.sample.square().mean() + output.latent_dist.mean.square().mean()).backward()
        return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}

    expected = gradients()
    assert all(gradient.any() for gradient in expected.values())
    model.enable_gradient_checkpointing()
    for name, gradient in gradients().items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-7, msg=name)


def test_the_running_std_follows_training_once_for_each_pass(make_bottleneck):
    model, x = make_bottleneck("soft_normalization"), torch.randn(2, 2, 100)
    model(x)
    assert model.normalization.running_std.item() == pytest.approx(1.6)
    model.enable_slicing()
    model.train()(x)
    latents = copy.deepcopy(model).eval().encode(x).latent_dist.mean
    activations = latents.detach() * model.normalization.running_std
    expected = 0.999 * 1.6 + 0.001 * activations.double().std(correction=0).item()
    assert model.normalization.running_std.item() == pytest.approx(expected, rel=1e-6)
    before = model.normalization.running_std.item()
    model.encoder.requires_grad_(False)
    model.normalization.requires_grad_(False)
    model(x).sample.sum().backward()
    assert model.normalization.running_std.item() == before


@torch.no_grad()
@both_new
@pytest.mark.parametrize("folded", [False, True])
def test_copies_and_folded_weights_compute_the_same(make_bottleneck, bottleneck, folded):
    model, x = make_bottleneck(bottleneck, "mamba", filterbank_bands=2), torch.randn(1, 2, 60)
    expected = model(x).sample
    if folded:
        model.fold_weight_norm()
    twin = copy.deepcopy(model)
    torch.testing.assert_close(twin(x).sample, expected, rtol=1e-6, atol=1e-6)
    for tensor in (*twin.parameters(), *twin.buffers()):
        tensor.zero_()
    torch.testing.assert_close(model(x).sample, expected, rtol=1e-6, atol=1e-6)


@torch.no_grad()
@both_new
def test_half_precision_stays_close(make_bottleneck, bottleneck):
    model, x = make_bottleneck(bottleneck), 0.5 * torch.randn(1, 2, 200)
    latents = model.encode(x).latent_dist.mean
    decoded = model.decode(latents).sample
    model.bfloat16()
    half = model.encode(x.bfloat16()).latent_dist.mean
    sample = model.decode(latents.bfloat16()).sample
    assert half.dtype == sample.dtype == torch.bfloat16
    for ours, expected in ((half, latents), (sample, decoded)):
        assert torch.linalg.vector_norm(ours - expected) < 0.05 * torch.linalg.vector_norm(expected)


@torch.no_grad()
@both_new
def test_weights_of_oobleck_are_taken_over_with_another_bottleneck(small_config, bottleneck):
    names = ("encoder_hidden_size", "downsampling_ratios", "channel_multiples", "decoder_channels")
    config = {name: small_config[name] for name in names}
    oobleck = AutoencoderOobleck(**config, decoder_input_channels=3, sampling_rate=8000).eval()
    model = AutoencoderStar.from_oobleck(oobleck, **CONFIGS[bottleneck])
    x, z = torch.randn(1, 2, 80), torch.randn(1, 3, 10)
    posterior = model.encode(x).latent_dist
    assert type(posterior) is POSTERIORS[bottleneck] and not model.training
    torch.testing.assert_close(posterior.mean, oobleck.encode(x).latent_dist.mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.decode(z).sample, oobleck.decode(z).sample, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="`bottleneck` 'sigma' needs `sigma`"):
        AutoencoderStar.from_oobleck(oobleck, bottleneck="sigma")


@torch.no_grad()
def test_decoding_is_deterministic_without_latent_noise(make_bottleneck):
    model, z = make_bottleneck("sigma"), torch.randn(2, 3, 10)
    state = torch.get_rng_state()
    first = model.decode(z).sample
    assert torch.equal(first, model.decode(z, generator=torch.Generator().manual_seed(3)).sample)
    assert torch.equal(state, torch.get_rng_state())


@torch.no_grad()
@pytest.mark.parametrize("latents_std", [None, [0.5, 2.0, 3.0]])
@every
def test_latent_noise_is_in_units_of_the_latents_std(make_bottleneck, bottleneck, latents_std):
    model = make_bottleneck(bottleneck, latent_noise=0.1, latents_std=latents_std)
    still = make_bottleneck(bottleneck)
    z = torch.randn(2, 3, 10)
    std = torch.tensor(latents_std or [1.0, 1.0, 1.0]).view(1, 3, 1)

    def generators(*seeds):
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    noise = torch.stack([torch.randn(3, 10, generator=generator) for generator in generators(4, 5)])
    noisy = model.decode(z, generator=generators(4, 5)).sample
    torch.testing.assert_close(noisy, still.decode(z + 0.1 * std * noise).sample, rtol=1e-4, atol=1e-5)
    noise = torch.randn(2, 3, 10, generator=generators(4)[0])
    noisy = model.decode(z, generator=generators(4)[0]).sample
    torch.testing.assert_close(noisy, still.decode(z + 0.1 * std * noise).sample, rtol=1e-4, atol=1e-5)
    model.enable_slicing()
    torch.testing.assert_close(model.decode(z, generator=generators(4)[0]).sample, noisy)
    with pytest.raises(ValueError, match="`generator`.*list of 3.*list of 2"):
        model.decode(torch.zeros(3, 3, 4), generator=generators(1, 2))


@torch.no_grad()
def test_latent_noise_is_of_evaluation_and_of_the_generator(make_bottleneck):
    model, x = make_bottleneck("gaussian", latent_noise=0.1), torch.randn(1, 2, 40)
    draws = [model(x, generator=torch.Generator().manual_seed(seed)).sample for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert not torch.equal(model(x).sample, model(x).sample)
    model.train()
    torch.testing.assert_close(model(x).sample, make_bottleneck("gaussian")(x).sample)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"bottleneck": "vq"}, "`bottleneck`.*gaussian, sigma, soft_normalization, not 'vq'"),
        ({"bottleneck": "sigma"}, "`bottleneck` 'sigma' needs `sigma`"),
        ({"bottleneck": "sigma", "sigma": 0.0}, "`sigma` must be positive and finite, not 0.0"),
        ({"bottleneck": "sigma", "sigma": -1.0}, "`sigma` must be positive and finite, not -1.0"),
        ({"sigma": 0.5}, "`sigma` belongs to the bottleneck 'sigma', not to 'gaussian'"),
        ({"bottleneck": "soft_normalization", "sigma": 0.5}, "`sigma` belongs.*not to 'soft_normalization'"),
        ({"latent_noise": -0.1}, "`latent_noise` must be at least 0 and finite, not -0.1"),
        ({"latent_noise": float("inf")}, "`latent_noise` must be at least 0 and finite, not inf"),
        ({"regularizer": "star"}, "`regularizer` must be a dict or None, not 'star'"),
    ],
)
def test_configurations_that_no_model_can_have_are_refused(small_config, make_small, config, message):
    with pytest.raises(ValueError, match=message):
        AutoencoderStar(**{**small_config, "context_type": "none", **config})
    with pytest.raises(ValueError, match=message):
        make_small().with_bottleneck(**{"bottleneck": "gaussian", **config})
