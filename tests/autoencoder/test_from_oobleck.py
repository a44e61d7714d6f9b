"""diffusers' `AutoencoderOobleck` and `AutoencoderStar` on the same weights."""

from __future__ import annotations

import shutil

import pytest
import torch
from diffusers import AutoencoderOobleck
from safetensors.torch import load_file, save_file

from star_hf import AutoencoderStar

WEIGHTS = "diffusion_pytorch_model.safetensors"
TINY = {
    "encoder_hidden_size": 6,
    "downsampling_ratios": [2, 4],
    "channel_multiples": [1, 2],
    "decoder_channels": 4,
    "decoder_input_channels": 3,
    "sampling_rate": 8000,
}


def random_oobleck(**config) -> AutoencoderOobleck:
    """An `AutoencoderOobleck` with non-trivial Snake parameters and weight norms."""
    torch.manual_seed(2)
    model = AutoencoderOobleck(**config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("alpha", "beta")):
                parameter.normal_(std=0.3)
            elif name.endswith("weight_g"):
                parameter.mul_(torch.rand_like(parameter) + 0.5)
    return model.eval()


def assert_relatively_close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    assert actual.shape == expected.shape
    error = torch.linalg.vector_norm(actual - expected) / torch.linalg.vector_norm(expected)
    assert error < tolerance


def outputs(model, x: torch.Tensor, z: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        posterior = model.encode(x).latent_dist
        return [posterior.mean, posterior.std, model.decode(z).sample]


@pytest.fixture
def folder(tmp_path):
    random_oobleck(**TINY).save_pretrained(tmp_path / "vae")
    return tmp_path / "vae"


@pytest.mark.slow
def test_stable_audio_opens_autoencoder_gives_the_same_output(tmp_path):
    oobleck = random_oobleck()
    x, z = torch.randn(1, 2, 2 * 2048), torch.randn(1, 64, 2)
    expected = outputs(oobleck, x, z)
    oobleck.save_pretrained(tmp_path / "vae")
    plain = AutoencoderStar.from_oobleck(tmp_path / "vae")
    shutil.rmtree(tmp_path / "vae")

    assert round(sum(parameter.numel() for parameter in plain.parameters()) / 1e6, 1) == 156.1
    assert plain.config.context_type == "none" and plain.hop_length == 2048
    for actual, reference in zip(outputs(plain, x, z), expected, strict=True):
        assert_relatively_close(actual, reference)
    del plain
    for context_type in ("mamba", "transformer"):
        extended = AutoencoderStar.from_oobleck(
            oobleck, context_type=context_type, num_context_layers=1, context_hidden_size=128
        )
        for actual, reference in zip(outputs(extended, x, z), expected, strict=True):
            assert_relatively_close(actual, reference)


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("context_type", ["none", "mamba", "transformer"])
def test_a_saved_oobleck_gives_the_same_output(folder, context_type, folded):
    star = AutoencoderStar.from_oobleck(
        str(folder), context_type, num_context_layers=2, context_hidden_size=16
    )
    assert not star.training
    assert (star.config.context_type, star.config.num_context_layers) == (context_type, 2)
    if folded:
        star.fold_weight_norm()
    x, z = torch.randn(2, 2, 80), torch.randn(2, 3, 10)
    expected = outputs(AutoencoderOobleck.from_pretrained(folder), x, z)
    for actual, reference in zip(outputs(star, x, z), expected, strict=True):
        assert_relatively_close(actual, reference)


def test_a_pipelines_subfolder_can_be_named(folder):
    expected = AutoencoderStar.from_oobleck(folder).state_dict()
    actual = AutoencoderStar.from_oobleck(folder.parent, subfolder="vae").state_dict()
    assert expected.keys() == actual.keys()
    assert all(torch.equal(actual[name], tensor) for name, tensor in expected.items())


def test_a_model_in_memory_keeps_its_type_and_its_own_weights():
    oobleck = random_oobleck(**TINY).bfloat16()
    star = AutoencoderStar.from_oobleck(oobleck)
    assert star.dtype == torch.bfloat16
    with torch.no_grad():
        for parameter in star.parameters():
            parameter.zero_()
    assert all(parameter.any() for parameter in oobleck.parameters() if parameter.ndim > 1)


def test_weights_go_back_into_diffusers_class(make_small):
    star = make_small()
    oobleck = AutoencoderOobleck(**TINY).eval()
    oobleck.load_state_dict(star.state_dict(), strict=True)
    x, z = torch.randn(1, 2, 80), torch.randn(1, 3, 10)
    for actual, reference in zip(outputs(oobleck, x, z), outputs(star, x, z), strict=True):
        assert_relatively_close(actual, reference)


def test_an_odd_stride_fills_the_last_samples_that_diffusers_leaves_out():
    config = {**TINY, "downsampling_ratios": [4, 3]}
    oobleck = random_oobleck(**config)
    star = AutoencoderStar.from_oobleck(oobleck)
    z = torch.randn(1, 3, 30)
    with torch.no_grad():
        theirs, ours = oobleck.decode(z).sample, star.decode(z).sample
    assert ours.shape[-1] == 30 * 12 > theirs.shape[-1]
    # Far enough from the end that the missing samples are out of reach.
    assert_relatively_close(ours[..., :120], theirs[..., :120])


def test_missing_extra_and_misshapen_weights_are_all_named(folder):
    weights = load_file(folder / WEIGHTS)
    weights["decoder.surprise"] = weights.pop("encoder.snake1.alpha")
    weights["decoder.snake1.beta"] = torch.zeros(1, 9, 1)
    save_file(weights, folder / WEIGHTS)
    with pytest.raises(ValueError) as caught:
        AutoencoderStar.from_oobleck(folder)
    message = str(caught.value)
    assert "no checkpoint of this AutoencoderOobleck" in message
    assert "missing: encoder.snake1.alpha" in message
    assert "unexpected: decoder.surprise" in message
    assert "decoder.snake1.beta has shape (1, 9, 1) instead of (1, 4, 1)" in message


def test_another_class_is_refused(make_small, tmp_path):
    make_small().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="class AutoencoderStar, not AutoencoderOobleck.*from_pretrained"):
        AutoencoderStar.from_oobleck(tmp_path)
