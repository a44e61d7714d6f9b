"""Render a model card from measured numbers, and from nothing else.

python training/render_card.py --name star-gen-esc10

Reads `model_cards/NAME/reconstruction.json` and `generation.json` (of evaluate_autoencoder.py and
evaluate_generator.py), `longer/generation.json` of a generator trained longer if there is one, and the
recordings' list in the checkpoint; writes `model_cards/NAME.md`.
"""

import csv
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, StrictUndefined, Undefined, UndefinedError

from engine.arguments import option, parse_arguments
from engine.run_log import fail

ROOT = Path(__file__).parents[1]
TEMPLATE = ROOT / "model_cards" / "template.md"
DATASET = "ESC-10, folds 1 to 4"


@dataclass
class CardArguments:
    name: str = option("star-gen-esc10", "of the model: its folder in model_cards and in the checkpoints")
    cards: str = option(str(ROOT / "model_cards"), "folder of the cards")
    attribution: str | None = option(None, "list of recordings; default: ATTRIBUTION.csv of the checkpoint")
    autoencoder: str = option("star", "which of the measured autoencoders is the model's own")


def render_card(arguments: CardArguments) -> str:
    """The card as text. Raises `ValueError` naming what is missing in the measurements."""
    folder = Path(arguments.cards) / arguments.name
    generation, reconstruction = (_read(folder / f"{name}.json") for name in ("generation", "reconstruction"))
    if arguments.autoencoder not in reconstruction["autoencoders"]:
        raise ValueError(
            f"autoencoder {arguments.autoencoder!r} is not among the measured ones: "
            f"{', '.join(reconstruction['autoencoders'])}"
        )
    longer = folder / "longer" / "generation.json"
    attribution = _read_attribution(arguments)
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True, autoescape=False
    )
    environment.filters.update({name: _of_what_is_there(function) for name, function in FILTERS.items()})
    values = dict(
        name=arguments.name,
        generation=generation,
        reconstruction=reconstruction,
        longer=_read(longer) if longer.is_file() else None,
        settings=generation["settings"],
        pipeline=generation["pipeline"],
        vae=generation["pipeline"]["vae"],
        judged=generation["generated"]["judge"],
        ceiling=generation["ceiling"],
        speed=generation["speed"],
        runs=_runs(generation, reconstruction),
        example_prompt=next(iter(generation["settings"]["prompts"].values()))[0],
        folds=sorted({row["clip"].split("-")[0] for row in attribution}),
        licences=Counter(row["license"] for row in attribution),
        attribution=attribution,
    )
    try:
        body = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(values)
    except (UndefinedError, KeyError) as error:
        raise ValueError(f"the measurements of {arguments.name!r} are incomplete: {error}") from error
    metadata = _metadata(arguments, generation, reconstruction)
    return str(ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n{body}"))


def _metadata(arguments: CardArguments, generation: dict, reconstruction: dict) -> ModelCardData:
    """The card's header, with the main numbers as the model index that the Hub reads."""
    own = reconstruction["autoencoders"][arguments.autoencoder]
    dataset = {"dataset_name": DATASET, "dataset_type": "esc10"}
    judged = generation["generated"]["judge"]
    results = [
        EvalResult(
            task_type="text-to-audio",
            metric_type="accuracy",
            metric_name="generated clips recognized by a classifier fitted on real ones",
            metric_value=judged["accuracy"],
            **dataset,
        )
    ]
    for key, metric_name in (
        ("stft_distance", "STFT distance of held-out reconstructions"),
        ("mel_distance", "mel distance of held-out reconstructions"),
        ("si_sdr", "SI-SDR of held-out reconstructions, dB"),
    ):
        value = own[key]["mean"]
        results.append(
            EvalResult(
                task_type="audio-to-audio",
                metric_type=key,
                metric_name=metric_name,
                metric_value=value,
                **dataset,
            )
        )
    return ModelCardData(
        language="en",
        license="cc-by-3.0",
        library_name="star_hf",
        pipeline_tag="text-to-audio",
        tags=["audio", "text-to-audio", "flow-matching", "vae", "star", "diffusers"],
        model_name=arguments.name,
        eval_results=results,
    )


def _runs(generation: dict, reconstruction: dict) -> dict[str, dict]:
    """How each part was trained, as far as the measurements tell."""
    runs = {
        f"autoencoder, {name}": result["training"]
        for name, result in reconstruction["autoencoders"].items()
        if "training" in result
    }
    if "training" in generation["pipeline"]:
        runs["generator"] = generation["pipeline"]["training"]
    return runs


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise ValueError(f"{file} is missing: measure first")
    return json.loads(file.read_text(encoding="utf-8"))


def _read_attribution(arguments: CardArguments) -> list[dict[str, str]]:
    checkpoint = ROOT / "src" / "star_hf" / "checkpoints" / arguments.name
    file = Path(arguments.attribution) if arguments.attribution else checkpoint / "ATTRIBUTION.csv"
    if not file.is_file():
        raise ValueError(f"{file} is missing: the card names the recordings that the model was trained on")
    with file.open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


def _of_what_is_there(function: Callable[..., str]) -> Callable[..., str]:
    """A filter that, given an undefined value, lets it raise the error that names it."""

    def checked(value: Any, *arguments: Any) -> str:
        return function(str(value) if isinstance(value, Undefined) else value, *arguments)

    return checked


def _number(value: float, digits: int | None = None) -> str:
    """With so many significant digits, in plain notation; all of them by default."""
    return f"{value:g}" if digits is None else f"{float(f'{value:.{digits}g}'):g}"


def _weakest(per_class: dict[str, float]) -> str:
    label = min(per_class, key=per_class.get)
    return f"{label.replace('_', ' ')}, {100 * per_class[label]:.3g}%"


def _spread(summary: dict[str, float]) -> str:
    return f"{summary['mean']:.2f} ± {summary['std']:.2f}"


def _regularizer(settings: dict[str, Any]) -> str:
    if settings["name"] == "isotropic":
        return f"isotropic, β {settings['beta']:g}"
    shape = f"{settings['growth']} growth"
    exponent = f", γ {settings['gamma']:g}" if settings["growth"] == "gamma" else ""
    return f"STAR, β {settings['beta_min']:g} to {settings['beta_max']:g}, {shape}{exponent}"


def _confusion(counts: dict[str, dict[str, int]]) -> str:
    columns = list(dict.fromkeys(column for row in counts.values() for column in row))
    lines = [
        "| | " + " | ".join(column.replace("_", " ") for column in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for label, row in counts.items():
        cells = [f"**{row[column]}**" if column == label else str(row[column] or "") for column in columns]
        lines.append(f"| {label.replace('_', ' ')} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _machine(machine: dict[str, Any]) -> str:
    if machine["gpu"]:
        return machine["gpu"]
    return f"{machine['threads']} threads of a {machine['architecture']} CPU with {machine['cpu_capability']}"


FILTERS = {
    "number": _number,
    "weakest": _weakest,
    "percent": lambda value: f"{100 * value:.3g}%",
    "millions": lambda value: f"{value / 1e6:.2f}M",
    "pairs": lambda values: ", ".join(f"{name} {value:g}" for name, value in values.items()),
    "spread": _spread,
    "regularizer": _regularizer,
    "confusion": _confusion,
    "machine": _machine,
    "cell": lambda text: text.replace("|", "\\|"),
}


def main(argv: list[str] | None = None) -> None:
    try:
        arguments = parse_arguments(CardArguments, argv)
        card = render_card(arguments)
        target = Path(arguments.cards) / f"{arguments.name}.md"
        temporary = target.with_name(f".{target.name}.tmp")
        temporary.write_text(card, encoding="utf-8")
        temporary.replace(target)
        print(f"{target} ({len(card) / 1024:.0f} KiB)")
    except ValueError as error:
        fail(str(error))


if __name__ == "__main__":
    main()
