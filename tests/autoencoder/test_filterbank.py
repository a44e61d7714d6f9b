"""The lapped transform and the front end that scales and compresses its bands."""

from __future__ import annotations

import math

import pytest
import torch

from star_hf.autoencoder.filterbank import LappedTransform, MultiBandFrontEnd


def transform_matrix(transform: LappedTransform, samples: int) -> torch.Tensor:
    """Row n holds what `analyze` makes of the n-th unit impulse."""
    impulses = torch.eye(samples, dtype=torch.float64).unsqueeze(1)
    return transform.analyze(impulses).flatten(1)


@pytest.mark.parametrize("blocks", [1, 2, 5])
@pytest.mark.parametrize("bands", [2, 4, 16])
def test_the_transform_is_orthonormal_and_synthesis_is_its_transpose(bands, blocks):
    transform = LappedTransform(bands).double()
    matrix = transform_matrix(transform, bands * blocks)
    identity = torch.eye(bands * blocks, dtype=torch.float64)
    torch.testing.assert_close(matrix @ matrix.T, identity, rtol=0, atol=1e-13)
    unit_coefficients = identity.reshape(-1, bands, blocks)
    torch.testing.assert_close(
        transform.synthesize(unit_coefficients).squeeze(1), matrix.T, rtol=0, atol=1e-13
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 2e-6)])
@pytest.mark.parametrize("bands", [2, 32])
def test_reconstruction_is_perfect(bands, dtype, tolerance):
    transform = LappedTransform(bands).to(dtype)
    audio = torch.randn(2, 3, 7 * bands, dtype=dtype)
    coefficients = transform.analyze(audio)
    assert coefficients.shape == (2, 3 * bands, 7)
    torch.testing.assert_close(transform.synthesize(coefficients), audio, rtol=0, atol=tolerance)


def test_inner_blocks_are_the_windowed_cosine_sums_of_the_closed_form():
    bands, blocks = 8, 5
    audio = torch.randn(1, 1, bands * blocks, dtype=torch.float64)
    coefficients = LappedTransform(bands).double().analyze(audio)
    n, k = torch.arange(2 * bands, dtype=torch.float64), torch.arange(bands, dtype=torch.float64)
    window = torch.sin(math.pi / (2 * bands) * (n + 0.5))
    cosines = torch.cos(math.pi / bands * torch.outer(k + 0.5, n - bands / 2 + 0.5))
    basis = math.sqrt(2 / bands) * window * cosines
    for block in range(1, blocks - 1):
        start = block * bands - bands // 2
        expected = basis @ audio[0, 0, start : start + 2 * bands]
        torch.testing.assert_close(coefficients[0, :, block], expected)


def test_a_sinusoid_stays_in_its_band_and_its_neighbours():
    bands, blocks = 16, 64
    transform = LappedTransform(bands).double()
    time = torch.arange(bands * blocks, dtype=torch.float64)
    for band in range(bands):
        sinusoid = torch.sin(math.pi * (band + 0.5) / bands * time + 0.3)
        coefficients = transform.analyze(sinusoid[None, None])[0]
        energy = coefficients[:, 1:-1].square().sum(-1)
        assert energy.argmax() == band
        assert energy[max(0, band - 1) : band + 2].sum() > 0.99 * energy.sum()


def test_channels_stay_apart():
    transform = LappedTransform(4)
    audio = torch.randn(1, 2, 12)
    audio[:, 1] = 0
    coefficients = transform.analyze(audio)
    assert coefficients[:, :4].abs().min() > 0
    assert not coefficients[:, 4:].any()


@pytest.mark.parametrize("bands", [0, 1, 3, 7])
def test_other_than_even_numbers_of_bands_are_refused(bands):
    with pytest.raises(ValueError, match=f"`bands`.*even.*{bands}"):
        LappedTransform(bands)


def test_precision_comes_back_after_half_precision():
    transform = LappedTransform(8)
    dct = transform.dct.clone()
    assert transform.bfloat16().dct.dtype == torch.bfloat16
    assert torch.equal(transform.float().dct, dct)


def test_tables_survive_the_meta_device():
    with torch.device("meta"):
        transform = LappedTransform(8)
    audio = torch.randn(1, 1, 32)
    expected = LappedTransform(8).analyze(audio)
    assert torch.equal(transform.to_empty(device="cpu").analyze(audio), expected)


def test_the_tables_are_no_part_of_a_checkpoint():
    assert not LappedTransform(8).state_dict()


SCALES = [0.5, 0.1, 0.02, 0.001]


@pytest.mark.parametrize("exponent", [1.0, 0.5, 0.3])
@pytest.mark.parametrize("scales", [None, SCALES])
def test_the_front_end_scales_and_compresses_each_band(scales, exponent):
    audio = torch.randn(2, 2, 40, dtype=torch.float64)
    bare = LappedTransform(4).double().analyze(audio).unflatten(1, (2, 4))
    scaled = bare / torch.tensor(scales or [1.0] * 4)[:, None]
    expected = (scaled.sign() * scaled.abs() ** exponent).flatten(1, 2)
    torch.testing.assert_close(MultiBandFrontEnd(4, scales, exponent).double().analyze(audio), expected)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 5e-6)])
@pytest.mark.parametrize("exponent", [1.0, 0.5])
@pytest.mark.parametrize("scales", [None, SCALES])
def test_the_front_end_reconstructs_perfectly(scales, exponent, dtype, tolerance):
    front_end = MultiBandFrontEnd(4, scales, exponent).to(dtype)
    audio = torch.randn(2, 2, 40, dtype=dtype)
    audio[:, :, 8:20] = 0
    reconstruction = front_end.synthesize(front_end.analyze(audio))
    assert reconstruction.dtype == dtype
    torch.testing.assert_close(reconstruction, audio, rtol=0, atol=tolerance)


def test_the_front_end_works_in_float32_under_autocast_and_in_half_precision():
    front_end = MultiBandFrontEnd(4, SCALES, 0.5)
    audio = torch.randn(1, 1, 40)
    expected = front_end.analyze(audio)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(front_end.analyze(audio), expected)
    half = front_end.analyze(audio.bfloat16())
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, front_end.analyze(audio.bfloat16().float()).bfloat16())


def test_quiet_bands_survive_autocast_beside_loud_ones():
    """A band 60 dB below another, from bands in half precision to audio and back."""
    front_end = MultiBandFrontEnd(4)
    bands = torch.randn(1, 4, 50)
    bands[:, 3] *= 1e-3
    with torch.autocast("cpu", torch.bfloat16):
        audio = front_end.synthesize(bands.bfloat16())
    assert audio.dtype == torch.float32
    error = front_end.analyze(audio)[:, 3] - bands[:, 3]
    assert error.square().mean() < 1e-4 * bands[:, 3].square().mean()


def test_gradients_of_silence_are_finite():
    front_end = MultiBandFrontEnd(4, SCALES, 0.5)
    audio = torch.zeros(1, 1, 40).requires_grad_()
    front_end.synthesize(front_end.analyze(audio)).sum().backward()
    assert torch.isfinite(audio.grad).all()


@pytest.mark.parametrize(
    "scales", [[1.0] * 3, [1.0] * 5, [1.0, 0.0, 1.0, 1.0], [1.0, math.nan, 1.0, 1.0], []]
)
def test_other_than_one_positive_scale_for_each_band_is_refused(scales):
    with pytest.raises(ValueError, match="`scales` must be 4 positive numbers"):
        MultiBandFrontEnd(4, scales)


@pytest.mark.parametrize("exponent", [0.0, -0.5, 1.5, math.nan])
def test_exponents_that_do_not_compress_are_refused(exponent):
    with pytest.raises(ValueError, match=f"`exponent`.*{exponent}"):
        MultiBandFrontEnd(4, exponent=exponent)
