"""What a run does about a step whose loss or gradient is not finite."""

import math

#: What a step reports beside the terms of its loss.
NO_LOSSES = ("loss", "grad_norm", "discriminator")


class TooManySkippedSteps(FloatingPointError):
    """So many steps in a row were not finite that going on makes no sense."""


class FiniteGuard:
    """Counts the steps that were skipped because their loss or gradient was not finite.

    Args:
        limit: so many in a row end the run.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.total = self.in_a_row = 0

    def passed(self) -> None:
        self.in_a_row = 0

    def skipped(self, step: int, values: dict[str, float]) -> None:
        """Count a skipped step; `values` are its losses and its gradient's norm, on this process."""
        self.total += 1
        self.in_a_row += 1
        if self.in_a_row < self.limit:
            return
        listing = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        bad = [name for name, value in values.items() if not math.isfinite(value) and name not in NO_LOSSES]
        raise TooManySkippedSteps(
            f"{self.in_a_row} steps in a row had a loss or a gradient that is not finite, the last one step "
            f"{step} ({listing}). The weights are those before them. Try, in this order: a tenth of the "
            f"learning rate (--{self._network(values)}optimizer.learning_rate) with the same command, which "
            "continues from the last checkpoint; --mixed_precision bf16 instead of fp16, or no; a smaller "
            f"--{self._network(values)}optimizer.max_grad_norm"
            + (f"; a smaller weight of {', '.join(bad)} in `losses`" if bad else "")
        )

    @staticmethod
    def _network(values: dict[str, float]) -> str:
        """Where the options of the network stand whose step it was."""
        return "adversarial." if "discriminator" in values else ""
