"""What every autoencoder of a comparison is probed with."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

GENERATORS = ("star_gen", "dit")
PRECISIONS = ("bf16", "float32")
#: What does not change a run that is there already, or only says which runs there are.
_NOT_OF_A_RUN = ("generators", "seeds", "device")


@dataclass(frozen=True)
class ProbeSettings:
    """The generator, its training and its judging: the same for all autoencoders that are compared.

    The rate is constant after its warm-up and the evaluated weights are their moving average, so that a run
    to the small budget is exactly the first part of the run to the large one.

    Args:
        generators: "star_gen", a `StarGenModel` around a small new Qwen3, and "dit", diffusers' Stable Audio
            transformer; or one of them.
        budgets: training steps at which a run is judged, ascending.
        seeds: of the initial weights, the order of the clips, times and noise; one run for each.
        batch_size: clips in a training step.
        max_seconds: longer recordings are cut into clips of this length.
        max_clips: clips for training and held-out ones together, drawn from the data set; None takes all.
        held_out_fraction: share of the recordings that the generator never sees.
        num_generated: clips that are generated and judged at each budget.
        sampling_steps, guidance_scale: of their generation, by Euler's method. At 1 there is no guidance
            and the distribution that was learned is judged. Guidance gives more clips the right label, and
            moves their levels, and so their distances, away from the real clips.
        validation_draws: times and noises at which each held-out clip's loss is measured.
        hidden_size, num_layers, num_heads: of the generator. The DiT has 3 layers for 5 of STAR-Gen's, which
            have about as many weights.
        vocab_size: largest vocabulary of the tokenizer, which is trained on the captions.
        caption_dropout: share of the training clips that come with the empty caption, for guidance.
        learning_rate, warmup_steps, weight_decay, max_grad_norm: of AdamW.
        ema_decay: largest decay of the moving average of the weights.
        precision: "bf16", autocast for the generator, or "float32".
        embedder: folder or Hub id of a transformers audio model for the distances of sets; None takes
            `LogMelEmbedder`.
        metric_rate: sampling rate in Hz at which clips are judged; None takes the lowest of the autoencoders.
        kept_clips: the first generated clips of a run at its largest budget, written as FLAC.
        device: of the generator; None takes the autoencoder's.
        seed: of the held-out clips, and of the noise that losses are measured at.
    """

    generators: tuple[str, ...] = ("star_gen",)
    budgets: tuple[int, ...] = (200, 800)
    seeds: tuple[int, ...] = (0, 1)
    batch_size: int = 16
    max_seconds: float = 10.0
    max_clips: int | None = None
    held_out_fraction: float = 0.15
    num_generated: int = 100
    sampling_steps: int = 24
    guidance_scale: float = 1.0
    validation_draws: int = 4
    hidden_size: int = 192
    num_layers: int = 4
    num_heads: int = 3
    vocab_size: int = 512
    caption_dropout: float = 0.1
    learning_rate: float = 1e-3
    warmup_steps: int = 50
    weight_decay: float = 1e-2
    max_grad_norm: float = 1.0
    ema_decay: float = 0.999
    precision: str = "bf16"
    embedder: str | None = None
    metric_rate: int | None = None
    kept_clips: int = 10
    device: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("generators", "budgets", "seeds"):
            value = getattr(self, name)
            object.__setattr__(self, name, (value,) if isinstance(value, (str, int)) else tuple(value))
        self._check_lists()
        for name in (
            "batch_size",
            "sampling_steps",
            "validation_draws",
            "hidden_size",
            "num_layers",
            "num_heads",
        ):
            _require_count(name, getattr(self, name), 1)
        for name in ("kept_clips", "warmup_steps", "seed"):
            _require_count(name, getattr(self, name), 0)
        for name in ("num_generated", "max_clips", "metric_rate"):
            if getattr(self, name) is not None:
                _require_count(name, getattr(self, name), 2)
        for name in ("max_seconds", "learning_rate", "max_grad_norm"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"`{name}` must be a finite number > 0, got {value!r}.")
        for name in ("guidance_scale", "weight_decay"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"`{name}` must be a finite number >= 0, got {value!r}.")
        for name, low in (("held_out_fraction", 0.0), ("caption_dropout", -1.0), ("ema_decay", -1.0)):
            value = getattr(self, name)
            if not max(low, 0.0) <= value < 1 or value == low:
                raise ValueError(
                    f"`{name}` must be {'above' if low == 0 else 'at least'} 0 and below 1, got {value!r}."
                )
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError(
                f"`hidden_size` must be an even multiple of `num_heads` {self.num_heads}, "
                f"got {self.hidden_size}."
            )
        if self.precision not in PRECISIONS:
            raise ValueError(f"`precision` must be one of {', '.join(PRECISIONS)}, got {self.precision!r}.")

    def _check_lists(self) -> None:
        unknown = [name for name in self.generators if name not in GENERATORS]
        if unknown or not self.generators or len(set(self.generators)) < len(self.generators):
            raise ValueError(
                f"`generators` must be one or more of {', '.join(GENERATORS)}, got {self.generators!r}."
            )
        if not self.budgets or list(self.budgets) != sorted(set(self.budgets)):
            raise ValueError(f"`budgets` must be ascending numbers of steps, got {self.budgets!r}.")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"`seeds` must be different numbers, at least one, got {self.seeds!r}.")
        for name, least in (("budgets", 1), ("seeds", 0)):
            for value in getattr(self, name):
                _require_count(name, value, least)

    def of_a_run(self) -> dict[str, Any]:
        """What the results of one generator and seed depend on, for JSON."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if name not in _NOT_OF_A_RUN
        }


def _require_count(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        what = "whole numbers" if name in ("budgets", "seeds") else "a whole number"
        raise ValueError(f"`{name}` must be {what} >= {least}, got {value!r}.")
