"""`star-hf card`: the card of a model, rendered from its measurements."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from star_hf.cli import options
from star_hf.cli.command_line import command_line
from star_hf.cli.console import Reporter


def card(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Of measurements; or a folder of encoded latents.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The card; README.md beside a model.")],
    model: Annotated[
        Path | None,
        typer.Option("--model", "-m", help="Folder of the model.", show_default="what the measurements say"),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Of the model.", show_default="that of FOLDER")
    ] = None,
    repo_id: Annotated[
        str | None, typer.Option("--repo", help="user/name on the Hub, for code and audio players.")
    ] = None,
    autoencoder: Annotated[
        str | None,
        typer.Option(
            "--autoencoder", help="The model's own among the measured.", show_default="the first of each file"
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if the card is not what would be written.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Render a model's card from what was measured, and from nothing else.

    1. Measure into one folder. What is not there is left out of the card:
       training/evaluate_autoencoder.py writes reconstruction.json,
       training/evaluate_generator.py generation.json, pictures, examples/,
       star-hf audit MODEL DATASET -o FOLDER audit.json.
    2. Put about.md there: license, datasets, base_model, tags in front matter;
       the sections "Intended use and limits", "Training data", "Recipe",
       "What differs from the paper", "Licence", and others if wanted.
       Numbers in it come from the JSON, as {{ generation.settings.seed }}.
    3. star-hf card FOLDER --model MODEL -o MODEL/README.md --repo user/name

    ATTRIBUTION.csv (title, author, license) in FOLDER or MODEL is listed.
    """
    from star_hf.cards import CardRequest, check_card, write_card

    reporter = Reporter(as_json)
    request = CardRequest(
        folder=folder,
        target=output,
        model=model,
        name=name,
        repo_id=repo_id,
        autoencoder=autoencoder,
        command=_command(folder, output, model, name, repo_id, autoencoder),
    )
    if check:
        check_card(request)
        reporter.result(f"{output} is what {folder} renders to")
        reporter.document({"card": str(output), "checked": True})
        return
    written = write_card(request)
    files = list(written.assets.used)
    reporter.result(f"{output}  {written.kind}, shows {len(files)} files")
    reporter.document({"card": str(output), "kind": written.kind, "shows": files})


def _command(folder: Path, output: Path, model: Path | None, *others: str | None) -> str:
    """This command, as the card names it."""
    names = ("--model", "--output", "--name", "--repo", "--autoencoder")
    options = zip(names, (model, output, *others), strict=True)
    given = [word for name, value in options if value is not None for word in (name, value)]
    return command_line(["card", folder, *given])
