"""Where the `evaluate` modules are: `evaluate.load(metric_path("stft_distance"))`."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "metrics"


def metric_names() -> list[str]:
    """The names of the `evaluate` modules that the package carries."""
    return sorted(file.stem for file in FOLDER.glob("*/*.py") if file.stem == file.parent.name)


def metric_path(name: str) -> str:
    """The folder of an `evaluate` module, for `evaluate.load`; it can be pushed to the Hub as a Space.

    Raises `ValueError` for a name that the package does not carry.
    """
    if name not in metric_names():
        raise ValueError(f"`name` must be one of {', '.join(metric_names())}, got {name!r}.")
    return str(FOLDER / name)
