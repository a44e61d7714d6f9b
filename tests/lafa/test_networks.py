"""LAFA's encoder and decoder: who may see what, positions, the flow's integration."""

from __future__ import annotations

import pytest
import torch

from star_hf.lafa import LafaDecoder, LafaEncoder, encoder as encoder_module
from star_hf.lafa.layers import RotaryAttention, rotary_positions

GROUPS, PATCH = 3, 2


@pytest.fixture
def make_encoder(randomized):
    def make(**options) -> LafaEncoder:
        torch.manual_seed(0)
        sizes = {"hidden_size": 8, "num_layers": 2, "channel_patch": PATCH}
        return randomized(LafaEncoder(GROUPS * PATCH, GROUPS * PATCH, **{**sizes, **options})).eval()

    return make


@pytest.fixture
def decoder(randomized) -> LafaDecoder:
    torch.manual_seed(0)
    return randomized(LafaDecoder(4, 6, hidden_size=8, num_layers=2)).eval()


def changed_groups(encoder: LafaEncoder, group: int, frame: int) -> list[bool]:
    """Which groups of h change anywhere when a group of the latents changes at one frame."""
    latents = torch.randn(1, GROUPS * PATCH, 5)
    other = latents.clone()
    other[:, group * PATCH : (group + 1) * PATCH, frame] += 1
    with torch.no_grad():
        difference = (encoder(latents) - encoder(other)).abs().amax((0, 2))
    return (difference.unflatten(0, (GROUPS, -1)).amax(dim=1) > 1e-7).tolist()


@pytest.mark.parametrize("group", range(GROUPS))
def test_no_group_of_h_depends_on_a_later_group_of_the_latents(make_encoder, group):
    assert changed_groups(make_encoder(causal=True), group, 2) == [g >= group for g in range(GROUPS)]
    assert changed_groups(make_encoder(causal=False), group, 2) == [True] * GROUPS


@torch.no_grad()
def test_every_frame_sees_every_frame(make_encoder):
    latents = torch.randn(1, GROUPS * PATCH, 9)
    for frame in (0, 8):
        other = latents.clone()
        other[..., frame] += 1
        difference = (make_encoder()(latents) - make_encoder()(other)).abs().amax((0, 1))
        assert (difference > 1e-7).all()


@torch.no_grad()
def test_masked_channels_are_not_read(make_encoder):
    encoder, latents = make_encoder(), torch.randn(2, GROUPS * PATCH, 5)
    mask = torch.zeros(2, GROUPS * PATCH, dtype=torch.bool)
    mask[0, 1:4] = True
    hidden = torch.where(mask[:, :, None], torch.randn_like(latents), latents)
    assert torch.equal(encoder(latents, mask), encoder(hidden, mask))
    assert torch.equal(encoder(latents, mask)[1:], encoder(latents[1:]))
    assert not torch.equal(encoder(latents, mask)[0], encoder(latents)[0])


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_that_is_masked_changes_nothing(make_encoder, decoder, side):
    """Left of the frames it moves them, too: only distances in time count."""
    padding = (3, 0) if side == "left" else (0, 3)
    real = slice(3, None) if side == "left" else slice(0, 5)
    mask = torch.nn.functional.pad(torch.ones(1, 5, dtype=torch.bool), padding)

    def padded(x):
        return torch.nn.functional.pad(x, padding, value=9.0)

    encoder, latents = make_encoder(), torch.randn(1, GROUPS * PATCH, 5)
    torch.testing.assert_close(
        encoder(padded(latents), frame_mask=mask)[..., real], encoder(latents), rtol=1e-4, atol=1e-5
    )
    noisy, h, t = torch.randn(1, 4, 5), torch.randn(1, 6, 5), torch.tensor([0.3])
    torch.testing.assert_close(
        decoder(padded(noisy), padded(h), t, mask)[..., real], decoder(noisy, h, t), rtol=1e-4, atol=1e-5
    )


@torch.no_grad()
def test_a_row_without_a_real_frame_stays_finite(make_encoder, decoder):
    mask = torch.tensor([[True, False], [False, False]])
    assert torch.isfinite(make_encoder()(torch.randn(2, GROUPS * PATCH, 2), frame_mask=mask)).all()
    velocity = decoder(torch.randn(2, 4, 2), torch.randn(2, 6, 2), torch.zeros(2), mask)
    assert torch.isfinite(velocity).all()


@torch.no_grad()
def test_more_frames_than_a_kernel_takes_give_the_same(make_encoder, monkeypatch):
    encoder, latents = make_encoder(), torch.randn(2, GROUPS * PATCH, 5)
    expected = encoder(latents)
    monkeypatch.setattr(encoder_module, "MOST_SEQUENCES", 3)
    torch.testing.assert_close(encoder(latents), expected)


def test_every_parameter_gets_a_gradient(make_encoder, decoder):
    encoder = make_encoder()
    h = encoder(torch.randn(2, GROUPS * PATCH, 5))
    decoder(torch.randn(2, 4, 5), h, torch.rand(2)).square().sum().backward()
    for module in (encoder, decoder):
        silent = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()]
        assert not silent


def test_recomputed_activations_give_the_same_gradients(make_lafa):
    gradients = []
    for checkpointing in (False, True):
        model = make_lafa().train()
        if checkpointing:
            model.enable_gradient_checkpointing()
        latents = torch.linspace(-1, 1, 2 * 4 * 6).reshape(2, 4, 6)
        model.decoder(latents, model.encoder(latents), torch.tensor([0.1, 0.8])).square().sum().backward()
        gradients.append([p.grad for p in (*model.encoder.parameters(), *model.decoder.parameters())])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@torch.no_grad()
def test_a_local_start_looks_at_its_own_place():
    """With nothing but the biases, values that name their places show the attention weights."""
    attention = RotaryAttention(64, starts_local=True)
    attention.to_q.weight.zero_()
    attention.to_kv.weight.copy_(torch.cat([torch.zeros(64, 64), torch.eye(64)]))
    attention.to_out.weight.copy_(torch.eye(64))
    places = torch.eye(64)[None]
    weights = attention(places, rotary=rotary_positions(64, 64, places.device))[0]
    assert torch.equal(weights.argmax(dim=1), torch.arange(64))
    row = weights[30] / weights[30, 30]
    assert row[29] == pytest.approx(0.34, abs=0.01) and row[31] == pytest.approx(0.34, abs=0.01)
    assert row[[28, 32]].max() < 1 / 40 + 1e-3 and row[33:].max() < 0.01


@torch.no_grad()
def test_a_new_decoder_predicts_no_motion():
    decoder = LafaDecoder(4, 6, hidden_size=8, num_layers=2)
    assert not decoder(torch.randn(1, 4, 5), torch.randn(1, 6, 5), torch.zeros(1)).any()


@torch.no_grad()
def test_the_velocity_depends_on_latents_time_and_h(decoder):
    noisy, h, t = torch.randn(1, 4, 5), torch.randn(1, 6, 5), torch.tensor([0.3])
    velocity = decoder(noisy, h, t)
    for other in (decoder(noisy + 1, h, t), decoder(noisy, h + 1, t), decoder(noisy, h, t + 0.4)):
        assert (velocity - other).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("num_steps", [1, 2, 5])
def test_euler_steps_end_at_the_data_along_the_true_velocity(decoder, monkeypatch, num_steps):
    data, times = torch.randn(2, 4, 5), []

    def velocity(latents, h, t, frame_mask=None):
        times.append(t[0].item())
        return (data - latents) / (1 - t[:, None, None])

    monkeypatch.setattr(decoder, "forward", velocity)
    reached = decoder.integrate(torch.randn(2, 4, 5), torch.randn(2, 6, 5), num_steps)
    torch.testing.assert_close(reached, data)
    assert times == pytest.approx([step / num_steps for step in range(num_steps)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channel_patch": 4}, "`channel_patch` must divide the 6 channels"),
        ({"channel_patch": 0}, "`channel_patch`.*got 0"),
        ({"out_channels": 4}, "`latent_channels` must be a multiple of the 3 groups"),
        ({"hidden_size": 65}, "`encoder_hidden_size` must be a multiple of 64, or even and below, got 65"),
        ({"num_layers": 0}, "`encoder_layers` must be at least 1, got 0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, message):
    sizes = {"in_channels": 6, "out_channels": 6, "channel_patch": 2, "hidden_size": 8}
    with pytest.raises(ValueError, match=message):
        LafaEncoder(**{**sizes, **options})


def test_the_decoders_sizes_are_checked_too():
    with pytest.raises(ValueError, match="`decoder_hidden_size`.*got 7"):
        LafaDecoder(4, 6, hidden_size=7)
    with pytest.raises(ValueError, match="`decoder_layers`.*got 0"):
        LafaDecoder(4, 6, hidden_size=8, num_layers=0)
