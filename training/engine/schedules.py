"""Learning rates and warm-ups as functions of the step and of the share of the budget that is used up."""

import math

SCHEDULES = ("constant", "cosine", "inverse")


def learning_rate_factor(
    schedule: str,
    step: int,
    progress: float,
    *,
    warmup_steps: int,
    warmup_decay: float = 0.0,
    final_factor: float = 0.0,
    inverse_steps: int = 200_000,
    inverse_power: float = 0.5,
) -> float:
    """Factor on the base learning rate at `step`, warm-up included.

    `constant` stays at 1; `cosine` falls to `final_factor` at `progress` 1, of the steps or of the time;
    `inverse` is (1 + step / inverse_steps)^-inverse_power. The warm-up is the product of a linear one over
    `warmup_steps` and of 1 - warmup_decay^(step + 1). Stable Audio Open is trained with `inverse` and a
    `warmup_decay` of 0.999.
    """
    warmup = ramp(step + 1, warmup_steps) * (1.0 - warmup_decay ** (step + 1))
    if schedule == "constant":
        return warmup
    if schedule == "cosine":
        return warmup * (
            final_factor + (1.0 - final_factor) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
        )
    if schedule == "inverse":
        return warmup * (1.0 + step / inverse_steps) ** -inverse_power
    raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {schedule!r}")


def ramp(step: int, steps: int, start: int = 0) -> float:
    """0 up to `start`, then linearly to 1 over `steps`."""
    if steps <= 0:
        return 1.0 if step >= start else 0.0
    return min(1.0, max(0.0, (step - start) / steps))
