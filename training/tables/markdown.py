"""The tables of docs/results.md: the study's numbers over the seeds, in italics the papers' beside them."""

from collections.abc import Callable, Sequence

from study.pages import ARROWS, markdown_table, number
from tables import paper
from tables.claims import FRECHET
from tables.columns import (
    BACKBONE_NAMES,
    GENERATOR_NAMES,
    METRICS,
    SHARES,
    growth_name,
    method_name,
    target_rate,
)
from tables.documents import Documents
from tables.paper import Method, PaperTable
from tables.seeds import SeedValues

NOTHING = "–"
LOSS = "relative_flow_loss"
MEAN_WEIGHT = "mean β"
PROBE = "probe_accuracy"


class MethodTable:
    """A row for each method; a column that no method has a number in is left out."""

    def __init__(
        self,
        documents: Documents,
        methods: Sequence[Method],
        name: Callable[[Method], str],
        heading: str = "",
    ) -> None:
        self.documents, self.methods = documents, methods
        self.columns: list[tuple[str, list[str]]] = [(heading, [name(method) for method in methods])]

    def add(self, title: str, cell: Callable[[Method], str]) -> bool:
        """Add a column; False where there is nothing to show in it."""
        cells = [cell(method) for method in self.methods]
        if all(text == NOTHING for text in cells):
            return False
        self.columns.append((title, cells))
        return True

    def add_metrics(self, *keys: str, beside: PaperTable | None = None) -> None:
        """Metrics of the runs, each with the numbers of the paper's table on its data sets."""
        for key in keys:
            own = self.add(_title(key), lambda method, key=key: _cell(self.documents.values(method, key)))
            for dataset in beside.datasets(key) if own and beside is not None else ():
                self.add(
                    f"*{dataset}*",
                    lambda method, key=key, dataset=dataset: _italic(beside.number(dataset, method, key)),
                )

    def markdown(self) -> str:
        """The table with the number of seeds in its last column; empty without a row or a number."""
        if not self.methods or len(self.columns) < 2:
            return ""
        seeds = [str(len(self.documents.runs_of(method))) for method in self.methods]
        titles, cells = zip(*self.columns, ("seeds", seeds), strict=True)
        return markdown_table(titles, list(zip(*cells, strict=True)))


def reconstruction_table(documents: Documents) -> str:
    """Table 1's ablation: what the poster shows of it."""
    table = MethodTable(documents, documents.rows("table1"), method_name)
    table.add_metrics("stft_distance", "fad", "latent_correlation", beside=paper.TABLE1)
    return table.markdown()


def detail_table(documents: Documents) -> str:
    """What else is measured of Table 1's autoencoders."""
    table = MethodTable(documents, documents.rows("table1"), method_name)
    table.add_metrics("mel_distance", "si_sdr", beside=paper.TABLE1)
    table.add_metrics("stft_distance_noise_0.1", "stft_distance_noise_0.3", "kl_head_tail_ratio", "rate_kbps")
    table.add(MEAN_WEIGHT, lambda method: number(documents.fact(method, "mean_kl_weight"), 3))
    return table.markdown()


def probe_table(documents: Documents) -> str:
    """What the audits read off Table 1's latents."""
    audited = [method for method in documents.rows("table1") if documents.audited(method, PROBE)]
    table = MethodTable(documents, audited, method_name)
    for key in (PROBE, "effective_dimensions"):
        table.add(_title(key), lambda method, key=key: _cell(documents.audited(method, key)))
    return table.markdown()


def backbone_table(documents: Documents) -> str:
    """Table 3: the backbones with STAR, and their time."""
    table = MethodTable(documents, _compared(documents, "table3"), lambda method: BACKBONE_NAMES[method[0]])
    table.add_metrics("stft_distance", "fad", beside=paper.TABLE3)
    _add_times(table, documents)
    return table.markdown()


def growth_table(documents: Documents) -> str:
    """Table 4: the growth functions."""
    table = MethodTable(documents, _compared(documents, "table4"), lambda method: growth_name(method[1]))
    table.add_metrics("stft_distance", "fad", "latent_correlation", beside=paper.TABLE4)
    table.add_metrics("kl_head_tail_ratio", "rate_kbps")
    table.add(MEAN_WEIGHT, lambda method: number(documents.fact(method, "mean_kl_weight"), 3))
    return table.markdown()


def rate_table(documents: Documents) -> str:
    """Target-KL's rates: what is reached, what it costs, and what is generated from it."""

    def deviation(method: Method) -> str:
        rate = documents.values(method, "rate_kbps")
        return NOTHING if rate is None else f"{100 * (rate.mean / target_rate(method[1]) - 1):+.1f}%"

    rows = documents.rows("rate_sweep")
    table = MethodTable(documents, rows, lambda method: f"{target_rate(method[1]):g} kbit/s", "target")
    table.add_metrics("rate_kbps")
    table.add("deviation", deviation)
    table.add_metrics("stft_distance", "mel_distance", "fad", "stft_distance_noise_0.3")
    table.add(_title(PROBE), lambda method: _cell(documents.audited(method, PROBE)))
    for kind in documents.kinds:
        for metric in (LOSS, FRECHET):
            table.add(
                f"{GENERATOR_NAMES[kind]}: {_generated_title(documents, metric)}",
                lambda method, kind=kind, metric=metric: _cell(
                    documents.generated(method, kind, metric, documents.budgets[-1])
                ),
            )
    return table.markdown()


def lafa_table(documents: Documents) -> str:
    """LAFA, and the autoencoder that it freezes."""
    table = MethodTable(documents, _compared(documents, "lafa"), method_name)
    table.add_metrics("stft_distance", "mel_distance", beside=paper.LAFA_TABLE)
    table.add_metrics("local_predictability")
    table.add("*paper*", lambda method: _italic(paper.LAFA_LOCALITY.get(method[1])))
    table.add_metrics("spectral_decay", "latent_correlation", "fad")
    return table.markdown()


def generation_table(documents: Documents, kind: str) -> str:
    """One kind of generator on each autoencoder's latents after each budget, and what real clips reach."""
    facts, budgets = documents.generators["metrics"], documents.budgets
    methods = documents.probed(kind)
    keys = [
        key
        for key in facts
        if any(documents.generated(method, kind, key, budget) for method in methods for budget in budgets)
    ]
    rows = []
    for method in methods:
        for budget in budgets:
            values = [documents.generated(method, kind, key, budget) for key in keys]
            runs = max((len(each.by_seed) for each in values if each is not None), default=0)
            theirs = _paper_fd(kind, method) if budget == budgets[-1] else NOTHING
            rows.append([method_name(method), str(budget), *map(_cell, values), theirs, str(runs)])
        ceiling = [documents.reconstructed(method, kind, key) for key in keys]
        rows.append([method_name(method), "real clips", *map(_cell, ceiling), NOTHING, NOTHING])
    titles = [_generated_title(documents, key) for key in keys]
    return markdown_table(["latents", "steps", *titles, f"*FD, {paper.AUDIOCAPS}*", "runs"], rows)


def _compared(documents: Documents, table: str) -> list[Method]:
    """The rows of a table whose rows other tables have too: none where there is one alone."""
    rows = documents.rows(table)
    return rows if len(rows) > 1 else []


def _add_times(table: MethodTable, documents: Documents) -> None:
    """Seconds to encode and to decode, both as a multiple of the CNN's, and the paper's."""
    timed = (documents.timing or {"backbones": {}})["backbones"]

    def seconds(method: Method, key: str) -> float | None:
        return timed.get(method[0], {}).get(key)

    def in_paper(method: Method) -> float | None:
        return paper.TABLE3.number(paper.SONG_DESCRIBER, method, "inference_seconds")

    for part in ("encode", "decode"):
        table.add(f"{part}, s ↓", lambda method, part=part: number(seconds(method, f"{part}_seconds"), 3))
    if table.add("both", lambda method: _multiple(seconds(method, "ratio"))):
        of_cnn = in_paper(("cnn", "star"))
        table.add("*inference, s*", lambda method: _italic(in_paper(method)))
        table.add("*multiple*", lambda method: f"*{_multiple(in_paper(method) / of_cnn)}*")


def _multiple(value: float | None) -> str:
    return NOTHING if value is None else f"{number(value, 3)}x"


def _paper_fd(kind: str, method: Method) -> str:
    """STAR-VAE's Table 2; of LAFA and of what it masks, LAFA's Table 1, whose generator is a DiT."""
    value = {**paper.LAFA_GENERATION, **paper.GENERATION[kind]}.get(method[1])
    return NOTHING if value is None else f"*{value:g}*"


def _generated_title(documents: Documents, key: str) -> str:
    facts = documents.generators["metrics"][key]
    unit = "%" if key in SHARES else facts["unit"]
    return (f"{facts['title']}, {unit}" if unit else facts["title"]) + ARROWS[facts["better"]]


def _title(key: str) -> str:
    metric = METRICS[key]
    return metric.label + ARROWS[metric.better]


def _cell(values: SeedValues | None) -> str:
    return NOTHING if values is None else values.text()


def _italic(value: float | None) -> str:
    """With two decimals, as the papers' tables have them."""
    return NOTHING if value is None else f"*{value:.2f}*"
