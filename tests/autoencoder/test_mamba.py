"""The segmented Mamba-2 mixer against transformers' and against the recurrence."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Mamba2Config
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

from star_hf.autoencoder import mamba
from star_hf.autoencoder.mamba import SegmentedMamba2Mixer, chunk_scan

WIDTH = 32


def config(**changes) -> Mamba2Config:
    settings = {"hidden_size": WIDTH, "expand": 2, "head_dim": 16, "num_heads": 4, "state_size": 8}
    return Mamba2Config(**{**settings, "n_groups": 1, "chunk_size": 64, "num_hidden_layers": 1, **changes})


@pytest.fixture
def mixers() -> tuple[Mamba2Mixer, SegmentedMamba2Mixer]:
    torch.manual_seed(0)
    peer, ours = Mamba2Mixer(config(), layer_idx=0), SegmentedMamba2Mixer(config())
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    ours.load_state_dict(peer.state_dict())
    return peer, ours


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).double().norm() / expected.double().norm()).item()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("frames", [1, 3, 64, 70, 250])
def test_outputs_and_gradients_are_those_of_transformers(mixers, frames, reverse, monkeypatch):
    monkeypatch.setattr(mamba, "SEGMENT_FRAMES", 100)  # no whole number of chunks
    weight = torch.randn(2, frames, WIDTH)
    x = torch.randn(2, frames, WIDTH)
    results = []
    for mixer in mixers:
        own = x.clone().requires_grad_()
        if mixer is mixers[1]:
            output = mixer(own, reverse=reverse)
        else:
            output = mixer(own.flip(1)).flip(1) if reverse else mixer(own)
        output.backward(weight)
        results.append([output, own.grad, *(parameter.grad for parameter in mixer.parameters())])
    assert max(relative(ours, peer) for peer, ours in zip(*results, strict=True)) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("autocast", [False, True], ids=["bfloat16", "autocast"])
def test_in_bfloat16_it_is_no_further_from_float32_than_transformers(mixers, autocast):
    x = torch.randn(1, 700, WIDTH)
    expected = mixers[0](x)
    if autocast:
        with torch.autocast("cpu", torch.bfloat16):
            peer, ours = (mixer(x) for mixer in mixers)
    else:
        peer, ours = (mixer.bfloat16()(x.bfloat16()) for mixer in mixers)
    assert peer.dtype == ours.dtype == torch.bfloat16
    assert relative(ours.float(), expected) < 1.1 * relative(peer.float(), expected)


def scan_inputs(frames: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(frames)

    def normal(*shape):
        return torch.randn(2, frames, *shape, generator=generator, dtype=torch.float64)

    step = torch.nn.functional.softplus(normal(3))
    return [normal(3, 5), step, -0.3 * step, normal(4), normal(4)]


@pytest.mark.parametrize("frames", [1, 5, 12, 40])
def test_the_scan_is_the_recurrence(frames):
    x, step, decay, into, out_of = scan_inputs(frames)
    start = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    memory, expected = start, []
    for t in range(frames):
        added = (step[:, t, :, None] * x[:, t])[..., None] * into[:, t, None, None]
        memory = decay[:, t].exp()[..., None, None] * memory + added
        expected.append((memory @ out_of[:, t, None, :, None]).squeeze(-1))
    y, last = chunk_scan(x, step, decay, into, out_of, start, chunk_frames=12)
    torch.testing.assert_close(y, torch.stack(expected, dim=1))
    torch.testing.assert_close(last, memory)


def test_two_parts_that_hand_on_the_memory_are_the_whole():
    inputs = scan_inputs(50)
    whole, last = chunk_scan(*inputs, chunk_frames=8)
    first, memory = chunk_scan(*(tensor[:, :21] for tensor in inputs), chunk_frames=8)
    second, end = chunk_scan(*(tensor[:, 21:] for tensor in inputs), memory, chunk_frames=8)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    torch.testing.assert_close(end, last)


@torch.no_grad()
def test_work_is_linear_in_length(mixers):
    def work(mixer: torch.nn.Module, frames: int) -> int:
        with FlopCounterMode(display=False) as counter:
            mixer(torch.randn(1, frames, WIDTH))
        return counter.get_total_flops()

    peer, ours = mixers
    assert work(ours, 8192) == 8 * work(ours, 1024)
    assert work(peer, 8192) > 8 * work(peer, 1024)  # its recurrence between chunks is a square


def test_several_groups_are_refused():
    with pytest.raises(ValueError, match="`n_groups` must be 1, got 2"):
        SegmentedMamba2Mixer(config(n_groups=2))


@pytest.mark.skipif(not (torch.cuda.is_available() and mamba.HAS_KERNELS), reason="needs mamba-ssm's kernels")
@torch.no_grad()
@pytest.mark.parametrize("reverse", [False, True])
def test_the_kernels_give_the_same(reverse):
    wide = config(hidden_size=128, head_dim=64, num_heads=4, state_size=64)
    mixer, x = SegmentedMamba2Mixer(wide), torch.randn(2, 700, 128)
    expected = mixer(x, reverse=reverse)
    assert relative(mixer.cuda()(x.cuda(), reverse=reverse).cpu(), expected) < 1e-3
