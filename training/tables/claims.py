"""What the papers claim, and what the study's numbers say of it, by rules."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from comparison.metrics import Metric
from star_hf.evaluation.accumulation import eighth_means
from study.pages import number
from tables import paper
from tables.claim import Claim, ordered
from tables.columns import (
    BACKBONE_NAMES,
    GENERATOR_NAMES,
    METRICS,
    growth_name,
    is_lafa,
    is_rate,
    method_name,
    target_rate,
)
from tables.documents import Documents
from tables.paper import Method, PaperTable
from tables.seeds import (
    AGREES,
    CONTRADICTS,
    UNDECIDED,
    Outcome,
    SeedValues,
    all_of,
)

OWN = "mamba"  # the backbone of STAR-VAE
FRECHET = "frechet"  # what stands for the papers' FD


def judge(documents: Documents) -> list[Claim]:
    """Every claim that the study is made to test, in the order of the page."""
    return [
        *(_star_reconstructs_better(documents, backbone) for backbone in ("cnn", OWN)),
        _mamba_needs_star(documents),
        _mamba_with_star_is_best(documents),
        _transformer_is_between(documents),
        _growth_is_extreme(documents, "star", "best"),
        _growth_is_extreme(documents, "star_step", "worst"),
        *(_kl_falls(documents, backbone) for backbone in ("cnn", OWN)),
        _probe_reads_star_better(documents),
        *(_star_generates_better(documents, kind) for kind in GENERATOR_NAMES),
        *(_middle_rate_generates_best(documents, kind) for kind in _kinds(documents, is_rate)),
        _lafa_is_local(documents),
        *(_lafa_generates_better(documents, kind) for kind in _kinds(documents, is_lafa)),
    ]


def _star_reconstructs_better(documents: Documents, backbone: str) -> Claim:
    methods = {"STAR": (backbone, "star"), "isotropic KL": (backbone, "isotropic")}
    return ordered(
        f"STAR reconstructs better than isotropic KL with a {BACKBONE_NAMES[backbone]}",
        _stft_distances(documents, methods),
        [("STAR", "isotropic KL")],
        METRICS["stft_distance"],
        "less",
        _in_table(paper.TABLE1, methods),
    )


def _mamba_needs_star(documents: Documents) -> Claim:
    methods = {"CNN": ("cnn", "isotropic"), "CNN-Mamba": ("mamba", "isotropic")}
    return ordered(
        "Mamba without STAR reconstructs worse than the CNN without STAR",
        _stft_distances(documents, methods),
        [("CNN", "CNN-Mamba")],
        METRICS["stft_distance"],
        "less",
        _in_table(paper.TABLE1, methods),
    )


def _mamba_with_star_is_best(documents: Documents) -> Claim:
    methods = {
        method_name(method, " with "): method
        for method in ((OWN, "star"), ("cnn", "star"), ("cnn", "isotropic"), (OWN, "isotropic"))
    }
    best, *others = methods
    return ordered(
        "Mamba with STAR reconstructs best of the four",
        _stft_distances(documents, methods),
        [(best, other) for other in others],
        METRICS["stft_distance"],
        "less",
        _in_table(paper.TABLE1, methods),
    )


def _transformer_is_between(documents: Documents) -> Claim:
    methods = {BACKBONE_NAMES[backbone]: (backbone, "star") for backbone in BACKBONE_NAMES}
    cnn, transformer, mamba = methods
    return ordered(
        "with STAR, the transformer reconstructs better than the CNN and worse than Mamba",
        _stft_distances(documents, methods),
        [(transformer, cnn), (mamba, transformer)],
        METRICS["stft_distance"],
        "less",
        _in_table(paper.TABLE3, methods),
    )


def _growth_is_extreme(documents: Documents, regularizer: str, which: str) -> Claim:
    name = growth_name(regularizer)
    methods = {growth_name(method[1]): method for method in paper.TABLE4.methods()}
    others = [other for other in methods if other != name]
    return ordered(
        f"{name} growth reconstructs {which} of the growth functions",
        _stft_distances(documents, methods),
        [(name, other) if which == "best" else (other, name) for other in others],
        METRICS["stft_distance"],
        "less",
        _in_table(paper.TABLE4, methods),
    )


def _kl_falls(documents: Documents, backbone: str) -> Claim:
    star, isotropic = (backbone, "star"), (backbone, "isotropic")
    claim = ordered(
        f"STAR makes the KL fall over the channels of a {BACKBONE_NAMES[backbone]}, more than isotropic KL",
        {
            "STAR": documents.values(star, "kl_head_tail_ratio"),
            "isotropic KL": documents.values(isotropic, "kl_head_tail_ratio"),
        },
        [("STAR", "isotropic KL")],
        METRICS["kl_head_tail_ratio"],
        "more",
        "Figure 3a, no numbers",
    )
    ratios = documents.values(star, "kl_head_tail_ratio")
    if claim.outcome is None or ratios is None:
        return claim
    eighths = [eighth_means(run["kl_per_channel"]) for run in documents.runs_of(star)]
    falling = [sum(after < before for before, after in pairwise(means)) for means in eighths]
    shown = " and ".join(str(count) for count in sorted(set(falling)))
    evidence = (
        f"{claim.evidence}; STAR's falls in {shown} of {len(eighths[0]) - 1} steps from eighth to eighth"
    )
    return replace(claim, outcome=all_of([claim.outcome, _above_one(ratios)]), evidence=evidence)


def _probe_reads_star_better(documents: Documents) -> Claim:
    values = {
        "STAR": documents.audited((OWN, "star"), "probe_accuracy"),
        "isotropic KL": documents.audited((OWN, "isotropic"), "probe_accuracy"),
    }
    star, isotropic = (f"{paper.LINEAR_PROBE[name]:.1%}" for name in ("star", "isotropic"))
    return ordered(
        "a linear probe reads more off the latents of STAR",
        values,
        [("STAR", "isotropic KL")],
        METRICS["probe_accuracy"],
        "more",
        f"{star}, {isotropic}",
    )


def _star_generates_better(documents: Documents, kind: str) -> Claim:
    probed = documents.probed()
    backbones = [backbone for backbone, regularizer in probed if regularizer == "star"]
    backbone = next((each for each in backbones if (each, "isotropic") in probed), OWN)
    numbers = paper.GENERATION[kind]
    return _generated(
        documents,
        kind,
        f"{GENERATOR_NAMES[kind]} generates better on latents of STAR than on those of isotropic KL",
        {"STAR": (backbone, "star"), "isotropic KL": (backbone, "isotropic")},
        [("STAR", "isotropic KL")],
        f"FD {numbers['star']:g}, {numbers['isotropic']:g} on {paper.AUDIOCAPS}",
    )


def _middle_rate_generates_best(documents: Documents, kind: str) -> Claim:
    name = f"of Target-KL's rates, {GENERATOR_NAMES[kind]} generates best at one in the middle"
    low, best, high = paper.RATES
    in_paper = f"best at {best.kbps:.2f} kbit/s of {low.kbps:.2f} to {high.kbps:.2f}"
    methods = {
        f"{target_rate(method[1]):g} kbit/s": method
        for method in sorted(filter(is_rate, documents.probed()), key=lambda method: target_rate(method[1]))
    }
    values = _frechet(documents, kind, methods)
    rates = [rate for rate in methods if values[rate] is not None]
    if len(rates) < 3:
        return Claim(name, in_paper)
    lowest, *middle, highest = rates
    chosen = min(middle, key=lambda rate: values[rate].mean)
    return _generated(documents, kind, name, methods, [(chosen, lowest), (chosen, highest)], in_paper)


def _lafa_is_local(documents: Documents) -> Claim:
    methods = {"LAFA": (OWN, "lafa"), "without": (OWN, None)}
    without, with_lafa = (paper.LAFA_LOCALITY[regularizer] for regularizer in (None, "lafa"))
    return ordered(
        "LAFA raises the locality of the channels",
        {name: documents.values(method, "local_predictability") for name, method in methods.items()},
        [("LAFA", "without")],
        METRICS["local_predictability"],
        "more",
        f"{with_lafa:.2f}, {without:.2f}",
    )


def _lafa_generates_better(documents: Documents, kind: str) -> Claim:
    without, with_lafa = (paper.LAFA_GENERATION[regularizer] for regularizer in (None, "lafa"))
    return _generated(
        documents,
        kind,
        f"{GENERATOR_NAMES[kind]} generates better on latents of LAFA than on those that it masks",
        {"LAFA": (OWN, "lafa"), "without": (OWN, None)},
        [("LAFA", "without")],
        f"FD {with_lafa:g}, {without:g} on {paper.AUDIOCAPS}, with a DiT",
    )


def _generated(
    documents: Documents,
    kind: str,
    name: str,
    methods: Mapping[str, Method],
    wanted: Sequence[tuple[str, str]],
    in_paper: str,
) -> Claim:
    """A claim on the Fréchet distance at the largest budget."""
    values = _frechet(documents, kind, methods)
    facts = (documents.generators or {"metrics": {}})["metrics"].get(FRECHET)
    title = "Fréchet distance" if facts is None else facts["title"]
    metric = Metric(FRECHET, f"{title} after {max(documents.budgets, default=0)} steps", "", better="less")
    claim = ordered(name, values, wanted, metric, "less", in_paper)
    seeds = [seed for value in values.values() if value is not None for seed in value.by_seed]
    autoencoders, own = (len({seed[place] for seed in seeds}) for place in (0, 1))
    shown = f"; seeds: {autoencoders} of the autoencoder, {own} of the generator"
    return replace(claim, evidence=claim.evidence + shown)


def _kinds(documents: Documents, wanted: Callable[[Method], bool]) -> list[str]:
    """The generators that were trained on latents of such methods; STAR-Gen where none was yet."""
    return [kind for kind in documents.kinds if any(map(wanted, documents.probed(kind)))] or ["star_gen"]


def _stft_distances(documents: Documents, methods: Mapping[str, Method]) -> dict[str, SeedValues | None]:
    return {name: documents.values(method, "stft_distance") for name, method in methods.items()}


def _frechet(documents: Documents, kind: str, methods: Mapping[str, Method]) -> dict[str, SeedValues | None]:
    budget = max(documents.budgets, default=0)
    return {name: documents.generated(method, kind, FRECHET, budget) for name, method in methods.items()}


def _in_table(table: PaperTable, methods: Mapping[str, Method]) -> str:
    """ "1.22, 1.28 on AudioCaps; 1.40, 1.46 on Song Describer", in the order of the methods."""
    parts = []
    for dataset in table.datasets("stft_distance"):
        numbers = (number(table.number(dataset, method, "stft_distance"), 3) for method in methods.values())
        parts.append(f"{', '.join(numbers)} on {dataset}")
    return "; ".join(parts)


def _above_one(ratios: SeedValues) -> Outcome:
    """Whether the first eighth has more than the last; of one seed nothing is said against it."""
    if ratios.low > 1 or len(ratios.by_seed) < 2:
        return Outcome(AGREES)
    if ratios.high > 1:
        return Outcome(UNDECIDED, ("it does not fall in every seed",))
    return Outcome(CONTRADICTS, ("it does not fall",))
