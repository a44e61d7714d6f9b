"""The autoencoders and the data set that a command compares: `[NAME=]VAE… DATASET`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from star_hf.hub import EMBEDDED_NAME, resolve_model

VAE, DATASET = "[NAME=]VAE", "DATASET"

Autoencoders = Annotated[
    list[str],
    typer.Argument(
        metavar=VAE,
        default_factory=list,
        show_default="embedded checkpoint",
        help="Folders or Hub ids of autoencoders, each with a name if wanted.",
    ),
]
DataSet = Annotated[
    str, typer.Argument(metavar=DATASET, help="Folder, tar, Parquet file or Hub name of a data set.")
]


def name_autoencoders(vaes: Sequence[str]) -> dict[str, str | None]:
    """The folder or Hub id of each autoencoder by its name, None for the embedded one where there are none.

    A name is what stands before "=", else the last part of the folder or id. Raises `typer.BadParameter` for
    two autoencoders of one name.
    """
    if not vaes:
        return {EMBEDDED_NAME: None}
    sources: dict[str, str | None] = {}
    for entry in vaes:
        name, equals, source = entry.partition("=")
        if not equals or Path(entry).exists():
            name, source = Path(entry).expanduser().absolute().name, entry
        if not name.strip() or not source:
            raise typer.BadParameter(f"'{entry}' is not a folder, a Hub id or name=folder.", param_hint=VAE)
        if name in sources:
            raise typer.BadParameter(
                f"two autoencoders have the name '{name}': {sources[name]} and {source}. "
                f"Write OTHER_NAME={source}.",
                param_hint=VAE,
            )
        sources[name] = source
    return sources


def check_dataset(dataset: str) -> None:
    """Raise `typer.BadParameter` for an autoencoder in the place of the data set, which comes last."""
    folder = Path(dataset).expanduser()
    is_model = any((folder / file).is_file() for file in ("model_index.json", "config.json"))
    is_named = "=" in dataset and not folder.exists()
    if is_model or is_named:
        raise typer.BadParameter(
            f"the data set comes last, and '{dataset}' is an autoencoder.", param_hint=DATASET
        )


def inspect_autoencoders(sources: dict[str, str | None]) -> dict[str, Any]:
    """The `CodecFolder` of each autoencoder. Raises `ValueError` or `OSError` where there is none."""
    from star_hf.audit import inspect_codec

    return {name: inspect_codec(resolve_model(source)) for name, source in sources.items()}
