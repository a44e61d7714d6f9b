"""Learning rates and warm-ups at the points that define them."""

import pytest

from engine.schedules import learning_rate_factor, ramp


def test_cosine_follows_the_used_up_budget_not_the_step():
    def factor(step, progress):
        return learning_rate_factor("cosine", step, progress, warmup_steps=0, final_factor=0.1)

    assert factor(7, 0.0) == 1.0
    assert factor(7, 0.5) == pytest.approx(0.55)
    assert factor(7, 1.0) == pytest.approx(0.1)
    assert factor(7, 1.7) == pytest.approx(0.1)


def test_inverse_decay_is_stable_audio_opens():
    factor = learning_rate_factor(
        "inverse", 600_000, 0.5, warmup_steps=0, inverse_steps=200_000, inverse_power=0.5
    )
    assert factor == pytest.approx((1 + 3) ** -0.5)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "inverse"])
def test_warmup_rises_linearly_from_the_first_step(schedule):
    factors = [learning_rate_factor(schedule, step, 0.0, warmup_steps=4) for step in range(6)]
    assert factors[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0], rel=1e-4)


def test_unknown_schedule_is_named():
    with pytest.raises(ValueError, match="got 'linear'"):
        learning_rate_factor("linear", 0, 0.0, warmup_steps=0)


def test_ramp():
    assert [ramp(step, 4, start=2) for step in (0, 2, 3, 6, 9)] == [0.0, 0.0, 0.25, 1.0, 1.0]
    assert ramp(0, 0) == 1.0
    assert [ramp(step, 0, start=3) for step in (2, 3)] == [0.0, 1.0]


def test_stable_audio_opens_schedule():
    # (1 - 0.999^(t + 1)) · (1 + t / 200,000)^-1/2
    for step in (0, 999, 200_000):
        value = learning_rate_factor("inverse", step, 0.0, warmup_steps=0, warmup_decay=0.999)
        assert value == pytest.approx((1 - 0.999 ** (step + 1)) * (1 + step / 200_000) ** -0.5)
