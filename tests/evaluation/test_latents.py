"""KL profiles: closed forms, streaming, and what follows from a profile."""

import math

import pytest
import torch

from star_hf.evaluation import ChannelKL, LatentProfile


def test_profile_of_a_known_posterior():
    """KL(N(m, s²) ‖ N(0, 1)) is ½(m² + s² − ln s² − 1)."""
    mean = torch.tensor([0.0, 2.0, 0.0])[None, :, None].expand(2, 3, 5)
    std = torch.tensor([1.0, 1.0, 0.5])[None, :, None].expand(2, 3, 5)
    profile = ChannelKL().update(mean, std).profile(frame_rate=100)

    assert profile.kl_per_channel == pytest.approx((0.0, 2.0, 0.5 * (0.25 - math.log(0.25) - 1)))
    assert profile.nats_per_frame == pytest.approx(sum(profile.kl_per_channel))
    assert profile.rate_kbps == pytest.approx(profile.nats_per_frame / math.log(2) * 0.1)
    assert profile.num_frames == 10


def test_profile_agrees_with_torch_distributions():
    mean, std = torch.randn(2, 4, 7), torch.rand(2, 4, 7) + 0.1
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, std), torch.distributions.Normal(0.0, 1.0)
    ).mean(dim=(0, 2))
    assert ChannelKL().update(mean, std).profile(10).kl_per_channel == pytest.approx(
        expected.tolist(), rel=1e-5
    )


def test_frames_count_equally_however_they_are_batched():
    mean, std = torch.randn(1, 8, 30), torch.rand(1, 8, 30) + 0.1
    whole = ChannelKL().update(mean, std).profile(10)
    parts = ChannelKL().update(mean[..., :3], std[..., :3]).update(mean[..., 3:], std[..., 3:]).profile(10)
    assert parts.kl_per_channel == pytest.approx(whole.kl_per_channel, rel=1e-12)
    assert parts.num_frames == whole.num_frames


def test_half_precision_posteriors_are_summed_in_double():
    mean, std = torch.full((1, 1, 4000), 3.0).half(), torch.ones(1, 1, 4000).half()
    assert ChannelKL().update(mean, std).profile(10).kl_per_channel[0] == pytest.approx(4.5, rel=1e-12)


def test_eighths_and_head_tail_ratio():
    profile = LatentProfile(tuple(float(kl) for kl in range(16, 0, -1)), 20.0, 1)
    assert profile.eighths == pytest.approx((15.5, 13.5, 11.5, 9.5, 7.5, 5.5, 3.5, 1.5))
    assert profile.head_tail_ratio == pytest.approx(15.5 / 1.5)
    assert LatentProfile((2.0, 1.0), 20.0, 1).eighths == (2.0, 1.0)


def test_an_empty_tail_is_null_in_json():
    profile = LatentProfile((1.0, 0.0), 20.0, 1)
    assert profile.head_tail_ratio == math.inf
    assert profile.to_dict()["head_tail_ratio"] is None


def test_wrong_posteriors_are_refused():
    good = torch.ones(1, 2, 3)
    with pytest.raises(ValueError, match=r"\(1, 2, 3\) and \(1, 2, 4\)"):
        ChannelKL().update(good, torch.ones(1, 2, 4))
    with pytest.raises(ValueError, match="`std` finite and > 0"):
        ChannelKL().update(good, 0 * good)
    with pytest.raises(ValueError, match="3 channels, earlier ones had 2"):
        ChannelKL().update(good, good).update(torch.ones(1, 3, 3), torch.ones(1, 3, 3))
    with pytest.raises(ValueError, match="nothing to measure"):
        ChannelKL().profile(10)
    with pytest.raises(ValueError, match="`frame_rate`"):
        ChannelKL().update(good, good).profile(math.nan)
