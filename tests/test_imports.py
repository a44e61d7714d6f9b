"""Who may import whom. The layers of the package, read from the source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import star_hf

PACKAGE = Path(star_hf.__file__).parent

# Area -> areas it may import besides itself. An area is a module or a folder directly under the package.
ALLOWED = {
    "audio": set(),
    "flow": set(),
    "regularizers": {"flow"},
    "autoencoder": {"regularizers"},
    "lafa": {"autoencoder", "flow"},
    "generation": {"autoencoder", "flow"},
    "losses": {"audio"},
    "evaluation": {"audio"},
    "data": {"audio"},
    "audit": {"audio", "autoencoder", "data", "evaluation", "generation", "lafa"},
    "probe": {"audio", "audit", "autoencoder", "data", "evaluation", "flow", "generation", "lafa"},
    "cards": {"audit"},
    "hub": {"audio", "cards"},
    "demo": {"audio", "audit", "autoencoder", "evaluation", "generation", "hub"},
}
# The command line stands on top, and the package's own file names everything without importing it.
FREE = {"cli", "__init__"}
MODELS = {"autoencoder", "generation"}


def _area(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imported_modules(tree: ast.AST, file: Path) -> set[str]:
    """Absolute names of everything that a file imports, at its top or inside its functions."""
    package = ["star_hf", *file.relative_to(PACKAGE).parent.parts]
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            modules |= {f"{module}.{alias.name}" for alias in node.names}
    return modules


def _imported_areas(source: str, file: Path) -> set[str]:
    names = [
        module.split(".")
        for module in _imported_modules(ast.parse(source), file)
        if module.split(".")[0] == "star_hf" and "." in module
    ]
    # `from star_hf import read_audio` reaches the area that defines the name.
    modules = [star_hf._EXPORTS.get(name[1], f"star_hf.{name[1]}") for name in names]
    return {module.split(".")[1] for module in modules} - {"__version__"}


# A checkpoint may hold a `pipeline.py` for diffusers: that is data, not a part of the package. A Space's
# `app.py` stands on top as the command line does.
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if not {"checkpoints", "space"} & set(path.parts))


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_layers(file):
    area = _area(file)
    if area in FREE:
        return
    assert area in ALLOWED, f"say in ALLOWED what {area} may import"
    forbidden = _imported_areas(file.read_text(), file) - ALLOWED[area] - {area}
    assert not forbidden, f"{area} must not import {sorted(forbidden)}"


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_nothing_imports_the_training_scripts(file):
    roots = {module.split(".")[0] for module in _imported_modules(ast.parse(file.read_text()), file)}
    assert not roots & {"training", "tests", "benchmarks"}


@pytest.mark.parametrize("name", ["layers", "convolution"])
def test_autoencoder_layers_stand_alone(name):
    file = PACKAGE / "autoencoder" / f"{name}.py"
    assert not _imported_areas(file.read_text(), file) - {"autoencoder"}


def test_models_never_import_losses_data_or_evaluation():
    assert not any(ALLOWED[area] & {"losses", "data", "evaluation"} for area in MODELS)


@pytest.mark.parametrize(
    "statement",
    [
        "from ..losses import MultiResolutionSTFTLoss",
        "from .. import losses",
        "from star_hf import MultiResolutionSTFTLoss",
        "import star_hf.losses.spectral",
        "def f():\n    from star_hf.losses.spectral import MultiResolutionSTFTLoss",
    ],
)
def test_the_reader_sees_every_way_of_importing(statement):
    assert _imported_areas(statement, PACKAGE / "generation" / "module.py") == {"losses"}
