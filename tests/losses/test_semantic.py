"""The alignment loss: its value by hand, at frames of another rate, and what minimizing it does."""

import pytest
import torch

from star_hf.losses.semantic import SemanticAlignment, features_at_frames


@pytest.fixture
def pair():
    return torch.randn(2, 4, 7), torch.randn(2, 7, 6)


def cosine(x, y):
    return (x @ y) / (x.norm() * y.norm())


def by_hand(alignment, latents, features):
    """Both terms in float64, frame by frame."""
    weight = alignment.projection.weight[:, :, 0].double()
    bias = alignment.projection.bias.double()
    latents, features = latents.double(), features.double()
    batch, _, frames = latents.shape
    frame_terms, pair_terms = [], []
    for b in range(batch):
        for t in range(frames):
            projected = weight @ latents[b, :, t] + bias
            frame_terms.append(
                {
                    "cosine": lambda p, f: 1 - cosine(p, f),
                    "l1": lambda p, f: (p - f).abs().mean(),
                    "mse": lambda p, f: (p - f).square().mean(),
                }[alignment.form](projected, features[b, t])
            )
            for s in range(frames):
                ours = cosine(latents[b, :, s], latents[b, :, t])
                pair_terms.append((ours - cosine(features[b, s], features[b, t])).abs())
    return torch.stack(frame_terms).mean(), torch.stack(pair_terms).mean()


@pytest.mark.parametrize("form", ["cosine", "l1", "mse"])
def test_the_value_by_hand(pair, form):
    alignment = SemanticAlignment(4, 6, form, self_similarity_weight=0.3, frame_weight=2.0)
    frame, similarity = by_hand(alignment, *pair)
    loss = alignment(*pair)
    assert loss.dtype == torch.float32 and loss.shape == ()
    torch.testing.assert_close(loss.double(), 2.0 * frame + 0.3 * similarity, rtol=1e-5, atol=1e-6)


def test_only_directions_count_with_cosines(pair):
    latents, features = pair
    alignment = SemanticAlignment(4, 6)
    torch.nn.init.zeros_(alignment.projection.bias)
    torch.testing.assert_close(alignment(3 * latents, 0.2 * features), alignment(latents, features))


def test_normalized_features(pair):
    latents, features = pair
    normalized = SemanticAlignment(4, 6, "mse", 0.0, normalize_features=True)
    standard = (features - features.mean(-1, keepdim=True)) / features.var(
        -1, keepdim=True, correction=0
    ).sqrt()
    expected = (normalized.projection(latents) - standard.transpose(1, 2)).square().mean()
    torch.testing.assert_close(normalized(latents, 5 * features + 1), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("teacher_frames", [3, 7, 20])
def test_features_are_taken_at_the_centres_of_the_frames(teacher_frames):
    """Features that are linear in time stay so, whatever the number of frames."""
    centres = (torch.arange(teacher_frames) + 0.5) / teacher_frames
    slopes = torch.tensor([1.0, -2.0])
    features = (centres[:, None] * slopes).expand(2, -1, -1)
    wanted = (torch.arange(7) + 0.5) / 7
    inside = (wanted >= centres[0]) & (wanted <= centres[-1])
    assert inside.sum() >= 5
    found = features_at_frames(features, 7)
    assert found.shape == (2, 2, 7)
    torch.testing.assert_close(found[0][:, inside], (wanted[:, None] * slopes).T[:, inside])


def test_another_number_of_frames_is_as_the_features_at_the_latents_frames(pair):
    latents, _ = pair
    features = torch.randn(2, 16, 6)
    alignment = SemanticAlignment(4, 6)
    at_frames = features_at_frames(features, 7).transpose(1, 2)
    torch.testing.assert_close(alignment(latents, features), alignment(latents, at_frames))


def test_latents_that_are_a_rotation_of_the_features_can_be_perfect():
    features = torch.randn(2, 9, 6)
    rotation = torch.linalg.qr(torch.randn(6, 6)).Q
    latents = (features @ rotation).transpose(1, 2)
    alignment = SemanticAlignment(6, 6)
    with torch.no_grad():
        alignment.projection.weight.copy_(2 * rotation[..., None])
        alignment.projection.bias.zero_()
    assert abs(alignment(latents, features).item()) < 1e-5
    assert alignment(latents.flip(-1), features).item() > 0.1


def test_minimizing_it_aligns_projection_and_latents(pair):
    latents, features = pair
    latents.requires_grad_()
    alignment = SemanticAlignment(4, 6)
    optimizer = torch.optim.Adam([latents, *alignment.parameters()], lr=0.03)
    values = []
    for _ in range(150):
        loss = alignment(latents, features)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    assert values[-1] < 0.4 * values[0]


def test_no_gradient_reaches_the_features_and_silence_gives_a_finite_one(pair):
    latents, features = pair
    latents = torch.cat([latents, torch.zeros(2, 4, 1)], dim=-1).requires_grad_()
    features = torch.cat([features, torch.zeros(2, 1, 6)], dim=1).requires_grad_()
    SemanticAlignment(4, 6)(latents, features).backward()
    assert features.grad is None and torch.isfinite(latents.grad).all() and latents.grad.any()


def test_half_precision_latents_are_compared_in_float32(pair):
    latents, features = pair
    alignment = SemanticAlignment(4, 6)
    half = latents.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = alignment(half, features)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, alignment(half.float(), features), rtol=0, atol=0)


def test_a_term_without_weight_is_left_out(pair):
    latents, features = pair
    only_pairs = SemanticAlignment(4, 6, frame_weight=0.0)
    assert not list(only_pairs.parameters())
    frame, similarity = by_hand(SemanticAlignment(4, 6), latents, features)
    torch.testing.assert_close(only_pairs(latents, features).double(), similarity, rtol=1e-5, atol=1e-6)
    alone = SemanticAlignment(4, 6, self_similarity_weight=0.0)
    frame, _ = by_hand(alone, latents, features)
    torch.testing.assert_close(alone(latents, features).double(), frame, rtol=1e-5, atol=1e-6)


def test_what_cannot_be_is_refused(pair):
    latents, features = pair
    for options, message in (
        ({"form": "l2"}, "`form` must be one of cosine, l1, mse, not 'l2'"),
        ({"frame_weight": -1.0}, "`frame_weight` must be at least 0, not -1"),
        ({"frame_weight": 0.0, "self_similarity_weight": 0.0}, "must not both be 0"),
    ):
        with pytest.raises(ValueError, match=message):
            SemanticAlignment(4, 6, **options)
    alignment = SemanticAlignment(4, 6)
    with pytest.raises(ValueError, match=r"`latents` must be \(batch, 4, frames\), not \(2, 5, 7\)"):
        alignment(torch.zeros(2, 5, 7), features)
    for wrong in (features[:1], features[..., :5], features[0]):
        with pytest.raises(ValueError, match=r"`features` must be \(2, teacher frames, 6\)"):
            alignment(latents, wrong)
