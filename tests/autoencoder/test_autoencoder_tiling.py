"""Tiles, pieces and slices give what one pass gives, and the reaches they rely on are real."""

from __future__ import annotations

import pytest
import torch

from star_hf.autoencoder import oobleck
from star_hf.autoencoder.layers import to_channels_last
from star_hf.autoencoder.oobleck import GRID_STEPS
from star_hf.autoencoder.tiling import map_tiles

CONFIGS = [
    {"filterbank_bands": 1, "downsampling_ratios": [2, 4]},
    {"filterbank_bands": 4, "downsampling_ratios": [3, 2], "filterbank_exponent": 0.5},
    {"filterbank_bands": 1, "downsampling_ratios": [2, 4], "context_type": "mamba"},
    {"filterbank_bands": 2, "downsampling_ratios": [2, 2], "context_type": "transformer"},
    {
        "filterbank_bands": 4,
        "downsampling_ratios": [3, 2],
        "filterbank_type": "noise_excited",
        "linear_shortcut": True,
        "context_type": "mamba",
    },
]


@pytest.fixture(params=CONFIGS, ids=lambda config: "-".join(map(str, config.values())))
def autoencoder(request, make_small):
    return make_small(**request.param)


def count_calls(monkeypatch, instance, name: str) -> list[int]:
    """Lengths that the method `name` of `instance` is called with from now on."""
    lengths, method = [], getattr(instance, name)

    def counted(x, *position):
        lengths.append(x.shape[-1])
        return method(x, *position)

    monkeypatch.setattr(instance, name, counted)
    return lengths


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    assert actual.shape == expected.shape
    return ((actual - expected).abs().max() / expected.abs().max()).item()


@torch.no_grad()
@pytest.mark.parametrize("tile_frames", [1, 7, 30])
@pytest.mark.parametrize("samples_beyond_the_last_hop", [0, 1])
def test_tiled_equals_untiled(autoencoder, monkeypatch, tile_frames, samples_beyond_the_last_hop):
    x = torch.randn(2, 2, 170 * autoencoder.hop_length + samples_beyond_the_last_hop)
    posterior = autoencoder.encode(x).latent_dist
    decoded = autoencoder.decode(posterior.mean).sample
    encoded_tiles = count_calls(monkeypatch, autoencoder, "_encode_features")
    decoded_tiles = count_calls(monkeypatch, autoencoder, "_decode_features")

    autoencoder.enable_tiling()
    autoencoder.tile_frames = tile_frames
    tiled = autoencoder.encode(x).latent_dist
    assert relative_error(tiled.mean, posterior.mean) < 1e-5
    assert relative_error(tiled.std, posterior.std) < 1e-5
    assert relative_error(autoencoder.decode(posterior.mean).sample, decoded) < 1e-5

    longest = tile_frames + 2 * autoencoder._encoder_reach + GRID_STEPS
    assert len(encoded_tiles) > 1 and max(encoded_tiles) <= longest * autoencoder.hop_length
    longest = tile_frames + 2 * autoencoder._decoder_reach + GRID_STEPS
    assert len(decoded_tiles) > 1 and max(decoded_tiles) <= longest


@torch.no_grad()
def test_short_signals_and_disabled_tiling_take_one_pass(make_small, monkeypatch):
    autoencoder = make_small()
    lengths = count_calls(monkeypatch, autoencoder, "_encode_features")
    autoencoder.enable_tiling()
    autoencoder.tile_frames = 10
    autoencoder.encode(torch.randn(1, 2, 10 * autoencoder.hop_length))
    autoencoder.disable_tiling()
    autoencoder.encode(torch.randn(1, 2, 90 * autoencoder.hop_length))
    assert lengths == [10 * autoencoder.hop_length, 90 * autoencoder.hop_length]


@torch.no_grad()
@pytest.mark.parametrize("tiling", [False, True])
def test_sliced_equals_unsliced(autoencoder, monkeypatch, tiling):
    x = torch.randn(3, 2, 40 * autoencoder.hop_length - 3)
    posterior = autoencoder.encode(x).latent_dist
    decoded = autoencoder.decode(posterior.mean).sample
    calls = count_calls(monkeypatch, autoencoder, "_encode")
    autoencoder.enable_slicing()
    if tiling:
        autoencoder.enable_tiling()
        autoencoder.tile_frames = 3
    sliced = autoencoder.encode(x).latent_dist
    assert len(calls) == 3
    assert relative_error(sliced.parameters, posterior.parameters) < 1e-5
    assert relative_error(autoencoder.decode(posterior.mean).sample, decoded) < 1e-5
    autoencoder.disable_slicing()
    autoencoder.encode(x)
    assert len(calls) == 4


def frames_that_matter(gradient: torch.Tensor, per_frame: int, frame: int) -> tuple[int, int]:
    """How many frames before and after `frame` a gradient over time reaches."""
    seen = gradient.abs().amax((0, 1)).flatten().nonzero().flatten() // per_frame
    return frame - int(seen.min()), int(seen.max()) - frame


@pytest.mark.parametrize("end", ["encoder", "decoder"])
def test_reach_bounds_the_receptive_field(autoencoder, end):
    """The gradient of one frame's result is zero beyond the reach, which is about twice as far."""
    autoencoder.double()
    reach = getattr(autoencoder, f"_{end}_reach")
    frame, frames = reach + 3, 2 * reach + 7
    if end == "encoder":
        per_frame = autoencoder.hop_length
        x = torch.randn(1, 2, frames * per_frame, dtype=torch.float64, requires_grad=True)
        result = autoencoder._encode_features(x)[..., frame]
    else:
        per_frame = 1
        latents = 3 if autoencoder.config.linear_shortcut else 0
        x = to_channels_last(torch.randn(1, 8 + latents, frames, dtype=torch.float64)).requires_grad_()
        hop = autoencoder.hop_length
        result = autoencoder._decode_features(x)[..., frame * hop : (frame + 1) * hop]
    (gradient,) = torch.autograd.grad(result.square().sum(), x)
    before, after = frames_that_matter(gradient, per_frame, frame)
    assert max(before, after) <= reach
    assert min(before, after) >= reach / 3


@torch.no_grad()
def test_the_context_sees_the_whole_signal_through_tiles(make_small):
    autoencoder = make_small("mamba")
    autoencoder.enable_tiling()
    autoencoder.tile_frames = 2
    x = torch.randn(1, 2, 100 * autoencoder.hop_length)
    other = x.clone()
    other[..., -1] += 3
    difference = autoencoder.encode(x).latent_dist.mean - autoencoder.encode(other).latent_dist.mean
    assert difference[..., 0].abs().max() > 1e-6


@torch.no_grad()
@pytest.mark.parametrize(("frames", "tile_frames"), [(31, 1), (45, 13), (45, 29), (1100, 129)])
def test_tiles_continue_the_noise(make_small, noise_excited, frames, tile_frames):
    """Also where tiles do not divide the signal, and beyond 4096 blocks (512 frames), where it repeats."""
    autoencoder = make_small("mamba", **noise_excited)
    x = torch.randn(1, 2, frames * autoencoder.hop_length)
    posterior = autoencoder.encode(x).latent_dist
    decoded = autoencoder.decode(posterior.mean).sample
    autoencoder.enable_tiling()
    autoencoder.tile_frames = tile_frames
    assert relative_error(autoencoder.encode(x).latent_dist.parameters, posterior.parameters) < 1e-5
    assert relative_error(autoencoder.decode(posterior.mean).sample, decoded) < 1e-5


@pytest.mark.parametrize("config", [*CONFIGS[:2], CONFIGS[4]], ids=["plain", "filterbank", "noise"])
def test_inference_in_pieces_equals_the_pass_that_keeps_gradients(make_small, monkeypatch, config):
    """Without gradients, each block runs on pieces of the signal that fit the cache."""
    monkeypatch.setattr(oobleck, "_PIECE_BYTES", 0)
    autoencoder = make_small(**config)
    lengths = count_calls(monkeypatch, autoencoder.encoder.block[0], "forward")
    x = torch.randn(2, 2, 200 * autoencoder.hop_length)
    whole = autoencoder(x)
    assert len(lengths) == 1
    with torch.no_grad():
        pieces = autoencoder(x)
        assert len(lengths) > 2
        assert relative_error(pieces.latent_dist.parameters, whole.latent_dist.parameters) < 1e-5
        # of the same latents, whose rounding errors an untrained decoder would multiply
        sample = autoencoder.decode(whole.latent_dist.mode()).sample
        assert relative_error(sample, whole.sample) < 1e-5


@pytest.mark.parametrize(("in_per_step", "out_per_step"), [(1, 1), (3, 1), (1, 2)])
@pytest.mark.parametrize("steps", [1, 4, 5, 23])
def test_map_tiles_joins_what_edges_do_not_affect(in_per_step, out_per_step, steps):
    """A function that spoils `reach` steps at every inner edge, on three- and four-dimensional signals."""
    reach, tile_steps, seen = 2, 4, []
    signal = torch.arange(float(steps * in_per_step))

    def spoil_edges(x, first_step):
        assert x[..., 0].eq(first_step * in_per_step).all()
        seen.append(x.shape[-1] // in_per_step)
        y = x[..., ::in_per_step].repeat_interleave(out_per_step, dim=-1).clone()
        spoiled = reach * out_per_step
        if x[..., 0].min() > 0:
            y[..., :spoiled] = -1
        if x[..., -1].max() < signal[-1]:
            y[..., -spoiled:] = -1
        return y

    expected = signal[::in_per_step].repeat_interleave(out_per_step)
    for shape in ((2, 3, -1), (2, 3, 1, -1)):
        x = signal.expand(*shape[:-1], -1)
        joined = map_tiles(spoil_edges, x, tile_steps, reach, in_per_step, out_per_step)
        assert torch.equal(joined, expected.expand_as(joined))
        assert joined.shape[:-1] == x.shape[:-1]
    assert max(seen) <= tile_steps + 2 * reach
