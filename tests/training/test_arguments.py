"""Recipes and command lines: types are kept, mistakes are named."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.arguments import (
    build,
    check_keywords,
    describe,
    group,
    option,
    parse_arguments,
    read_recipe,
    to_yaml,
)

RECIPES = sorted((Path(__file__).parents[2] / "training" / "recipes").rglob("*.yaml"))


@dataclass
class Inner:
    rate: float = option(0.5, "a rate")
    flag: bool = option(False, "a switch")
    sizes: list[int] = option([1, 2], "sizes")


@dataclass
class Outer:
    name: str = option("x", "a name")
    steps: int | None = option(None, "steps")
    weights: dict[str, float] = option({"a": 1.0}, "weights")
    free: dict[str, Any] = option({}, "anything")
    inner: Inner = group(Inner)


def test_command_line_overrides_the_recipe_and_the_recipe_its_base(tmp_path):
    (tmp_path / "base.yaml").write_text("name: base\nsteps: 5\ninner: {rate: 1e-4, sizes: [3]}\n")
    (tmp_path / "recipe.yaml").write_text("base: base.yaml\nsteps: 6\ninner: {flag: true}\n")
    recipe = str(tmp_path / "recipe.yaml")
    arguments = parse_arguments(Outer, ["--config", recipe, "--inner.rate", "2e-3", "--weights.b=3"])
    assert (arguments.name, arguments.steps) == ("base", 6)
    assert arguments.inner == Inner(rate=2e-3, flag=True, sizes=[3])
    assert arguments.weights == {"b": 3.0}


@pytest.mark.parametrize(
    ("given", "expected"), [("true", True), ("False", False), ("0", False), ("on", True), (None, True)]
)
def test_booleans_are_read_as_booleans(given, expected):
    arguments = parse_arguments(Outer, ["--inner.flag", *([given] if given else [])])
    assert arguments.inner.flag is expected


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--inner.rat", "1"], "unknown key 'inner.rat'; did you mean 'inner.rate'"),
        (["--zzz", "1"], "unknown key 'zzz'; known here: name, steps"),
        (["--inner.flag", "maybe"], "inner.flag must be bool, got 'maybe'"),
        (["--steps", "1.5"], "steps must be int, got 1.5"),
        (["--inner.sizes", "[1, two]"], r"inner.sizes\[1\] must be int, got 'two'"),
        (["--weights.a", "heavy"], "weights.a must be float, got 'heavy'"),
        (["--inner", "3"], "inner must hold keys and values"),
        (["stray"], "unexpected argument 'stray'"),
        (["--config", "missing.yaml"], "'missing.yaml' does not exist"),
    ],
)
def test_mistakes_are_named(argv, message):
    with pytest.raises(ValueError, match=message):
        parse_arguments(Outer, argv)


def test_null_empties_what_a_base_recipe_filled():
    assert build(Outer, {"free": None}).free == {}
    assert parse_arguments(Outer, ["--steps", "null"]).steps is None


def test_resolved_arguments_are_a_recipe_again(tmp_path):
    arguments = parse_arguments(Outer, ["--inner.rate", "1e-7", "--free.a", "[1, {b: 2}]"])
    (tmp_path / "resolved.yaml").write_text(to_yaml(arguments))
    assert parse_arguments(Outer, ["--config", str(tmp_path / "resolved.yaml")]) == arguments


def test_help_lists_every_option_with_its_default():
    text = describe(Outer)
    assert "--inner.flag [False]  a switch" in text
    assert "--weights [{'a': 1.0}]  weights" in text


def test_keywords_of_a_class_are_checked():
    check_keywords("inner", {"rate": 1}, Inner)
    with pytest.raises(ValueError, match="unknown key 'inner.rats' for Inner; did you mean 'inner.rate'"):
        check_keywords("inner", {"rats": 1}, Inner)
    with pytest.raises(ValueError, match="unknown key 'inner.rate'"):
        check_keywords("inner", {"rate": 1}, Inner, reserved=("rate",))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipes_hold_only_known_keys_and_what_differs(recipe):
    from encode_latents import EncodeArguments
    from train_autoencoder import AutoencoderArguments
    from train_dit import DiTArguments
    from train_generator import GeneratorArguments
    from train_lafa import LafaArguments

    kinds = {
        "generator": GeneratorArguments,
        "latents": EncodeArguments,
        "dit": DiTArguments,
        "lafa": LafaArguments,
    }
    kind = next((kind for name, kind in kinds.items() if name in recipe.stem), AutoencoderArguments)
    arguments = parse_arguments(kind, ["--config", str(recipe)])
    if kind is not EncodeArguments:  # it would look for the folder to write
        arguments.check()
    own = yaml.safe_load(recipe.read_text())
    base = own.pop("base", None)
    without = build(kind, read_recipe(recipe.parent / base) if base else {})
    assert [key for key in own if getattr(without, key) == getattr(arguments, key)] == []


def test_no_is_a_word_and_false_a_truth_value(tmp_path):
    from train_autoencoder import AutoencoderArguments

    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("mixed_precision: no\ngradient_checkpointing: yes\n")
    arguments = parse_arguments(AutoencoderArguments, ["--config", str(recipe)])
    assert (arguments.mixed_precision, arguments.gradient_checkpointing) == ("no", True)
    assert parse_arguments(AutoencoderArguments, ["--mixed_precision", "no"]).mixed_precision == "no"
    (tmp_path / "resolved.yaml").write_text(to_yaml(arguments))
    assert parse_arguments(AutoencoderArguments, ["--config", str(tmp_path / "resolved.yaml")]) == arguments


def test_help_shows_a_groups_own_defaults():
    from train_autoencoder import AutoencoderArguments

    text = describe(AutoencoderArguments)
    assert "--adversarial.optimizer.learning_rate [0.0003]" in text
    assert "--optimizer.learning_rate [0.00015]" in text
