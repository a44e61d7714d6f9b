"""Which runs the tables ask for: Phase I of each backbone, and from it Phase II with each regularizer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.runs import ROOT, Run

RECIPES = ROOT / "training" / "recipes" / "tables"
PHASE1, PHASE2, LAFA = "phase1", "phase2", "lafa"
BACKBONES = {"cnn": "none", "transformer": "transformer", "mamba": "mamba"}
#: The paper's own backbone, which the growth functions, rates and generators are compared on.
OWN_BACKBONE = "mamba"

#: β five times the paper's, as in ../recipes/esc10_autoencoder_star.yaml.
STAR = {"name": "star", "beta_min": 5e-4, "beta_max": 2e-3}
RATES = (1.5, 3.0, 6.0, 12.0)
#: The rate takes longer to arrive than the other runs train.
RATE_STEPS = 450
REGULARIZERS: dict[str, dict[str, Any]] = {
    "isotropic": {},
    "star": STAR,
    "star_step": {**STAR, "growth": "step"},
    "star_linear": {**STAR, "growth": "linear"},
    "star_gamma_0.5": {**STAR, "gamma": 0.5},
    "star_gamma_1.5": {**STAR, "gamma": 1.5},
    "star_gamma_3": {**STAR, "gamma": 3.0},
    **{f"target_kl_{rate:g}": {"name": "target_kl", "target_kbps": rate} for rate in RATES},
}
GROWTH = ("star_step", "star_linear", "star_gamma_0.5", "star_gamma_1.5", "star", "star_gamma_3")
RATE_SWEEP = tuple(f"target_kl_{rate:g}" for rate in RATES)
ABLATION = tuple((backbone, name) for backbone in ("cnn", OWN_BACKBONE) for name in ("isotropic", "star"))
BACKBONE_ABLATION = tuple((backbone, "star") for backbone in BACKBONES)
LAFA_ABLATION = ((OWN_BACKBONE, PHASE1), (OWN_BACKBONE, LAFA))
#: What the tables compare, by the key of `autoencoders.json`: backbone and training of each row.
TABLES: dict[str, tuple[tuple[str, str], ...]] = {
    "table1": ABLATION,
    "table3": BACKBONE_ABLATION,
    "table4": tuple((OWN_BACKBONE, name) for name in GROWTH),
    "rate_sweep": tuple((OWN_BACKBONE, name) for name in RATE_SWEEP),
    "lafa": LAFA_ABLATION,
}
#: Whose latents which generators are trained on, in an order that is useful when interrupted.
PROBED: dict[tuple[str, str], tuple[str, ...]] = {
    (OWN_BACKBONE, "star"): ("star_gen", "dit"),
    (OWN_BACKBONE, "isotropic"): ("star_gen", "dit"),
    **{(OWN_BACKBONE, name): ("star_gen",) for name in RATE_SWEEP},
    **dict.fromkeys(LAFA_ABLATION, ("star_gen",)),
}
#: Whose channels and decoders are audited, and whose errors are told by frequency band.
AUDITED = ABLATION


@dataclass(frozen=True)
class Experiment:
    """One autoencoder: its backbone, what it is trained with (Phase I, a regularizer or LAFA), its seed."""

    backbone: str
    training: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.backbone}_{self.training}_seed{self.seed}"

    @property
    def regularizer(self) -> str | None:
        """Its training as the tables' JSON names it: None is Phase I."""
        return None if self.training == PHASE1 else self.training

    @property
    def kind(self) -> tuple[str, str]:
        return self.backbone, self.training

    @property
    def start(self) -> "Experiment | None":
        """Whose weights it starts from, or freezes."""
        return None if self.training == PHASE1 else Experiment(self.backbone, PHASE1, self.seed)

    @property
    def control(self) -> "Experiment":
        """What its numbers are held against: the plain CNN of the same stage, or what LAFA wraps."""
        if self.training == LAFA:
            return Experiment(self.backbone, PHASE1, self.seed)
        return Experiment("cnn", PHASE1 if self.training == PHASE1 else "isotropic", self.seed)


@dataclass(frozen=True)
class Budget:
    """What the command line changes for all runs: steps of each stage, data, threads."""

    phase1_steps: int | None = None
    steps: int | None = None
    lafa_steps: int | None = None
    data: str | None = None
    threads: int | None = None

    def changes(self, training: str) -> dict[str, Any]:
        """What alters what is trained, by option of the training script."""
        stages = {PHASE1: self.phase1_steps, LAFA: self.lafa_steps}
        default = RATE_STEPS if training in RATE_SWEEP else None
        steps = stages[training] if training in stages else self.steps or default
        options = {"max_steps": steps, "data.source": self.data}
        return {key: value for key, value in options.items() if value is not None}


def all_experiments(seeds: Sequence[int], rate_seeds: Sequence[int]) -> list[Experiment]:
    """Every autoencoder, in an order that is useful when interrupted: seed by seed, Table 1 first.

    `rate_seeds` are those of `seeds` that the rates are swept with.
    """
    found: dict[Experiment, None] = {}
    for seed in seeds:
        for table, rows in TABLES.items():
            if table == "rate_sweep" and seed not in rate_seeds:
                continue
            wanted = [Experiment(backbone, training, seed) for backbone, training in rows]
            # every Phase I before what needs it, so that two of them train side by side
            found |= dict.fromkeys(start for start in (each.start for each in wanted) if start is not None)
            found |= dict.fromkeys(wanted)
    return list(found)


def make_run(experiment: Experiment, output_dir: Path, budget: Budget, recipes: Path = RECIPES) -> Run:
    """The training of one autoencoder in `output_dir/NAME`."""
    stage = experiment.training if experiment.training in (PHASE1, LAFA) else PHASE2
    changes = {"seed": experiment.seed, **budget.changes(experiment.training)}
    places = {"output_dir": str(output_dir / experiment.name)}
    if budget.threads is not None:
        places["threads"] = str(budget.threads)
    start = experiment.start
    if start is None:
        changes["model.context_type"] = BACKBONES[experiment.backbone]
    else:
        places["vae" if stage == LAFA else "init_from"] = str(output_dir / start.name)
    if stage == PHASE2:
        settings = REGULARIZERS[experiment.training]
        changes |= {f"regularizer.{key}": value for key, value in settings.items()}
    return Run(
        experiment.name,
        recipes / f"{stage}.yaml",
        output_dir / experiment.name,
        changes,
        places,
        None if start is None else make_run(start, output_dir, budget, recipes).plan(),
        None if start is None else start.name,
    )


def rows(table: str, seeds: Sequence[int]) -> Iterator[tuple[str, str, list[Experiment]]]:
    """Backbone, training and the experiments over the seeds of each row of a table."""
    for backbone, training in TABLES[table]:
        yield backbone, training, [Experiment(backbone, training, seed) for seed in seeds]
