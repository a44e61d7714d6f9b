"""Runs the scripts of training/ at small size, and holds command lines and recipes against their parsers."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import small_budgets
import yaml
from markdown_pages import ROOT
from reader_folder import ReaderFolder

#: Studies of many runs, which their own tests run.
STUDIES = ("compare_regularizers.py", "reproduce_tables.py")


class Failure(Exception):
    """A command or a recipe that does not do what the page says it does."""


class Parsed(Exception):
    """A script's command line was understood, which is all that was asked for."""


class Scripts:
    """The repository's scripts in a reader's folder.

    Args:
        reader: the folder.
        training: whether training scripts run; else their command lines are parsed and checked.
    """

    def __init__(self, reader: ReaderFolder, training: bool = True) -> None:
        self.reader, self.training = reader, training

    def train(self, script: str, words: list[str]) -> None:
        from accelerate.state import AcceleratorState, GradientState

        from engine import arguments as command_lines, script as engine_script
        from tasks import autoencoder_task

        module = importlib.import_module(Path(script).stem)

        def parse(cls: type, argv: list[str] | None = None) -> Any:
            arguments = command_lines.parse_arguments(cls, argv)
            if not self.training or Path(script).name in STUDIES:
                for name in ("check", "check_values"):
                    if callable(check := getattr(arguments, name, None)):
                        check()
                raise Parsed
            values = command_lines.flatten(arguments)
            self.reader.lend(value for name, value in values.items() if name != "output_dir")
            return command_lines.parse_arguments(cls, [*words, *small_budgets.of_script(arguments)])

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [script, *words])
            for place in (module, engine_script):
                patch.setattr(place, "parse_arguments", parse, raising=False)
            patch.setattr(autoencoder_task, "SHORTCUT_CROPS", small_budgets.SHORTCUT_CROPS)
            try:
                module.main(words)
            except Parsed:
                pass
            finally:
                AcceleratorState._reset_state(reset_partial_state=True)
                GradientState._reset_state()

    def check_recipe(self, path: Path) -> None:
        """Raises `Failure` for keys that no script knows."""
        from accelerate.commands.config.config_args import load_config_from_file

        from engine.arguments import build, read_recipe

        try:
            values = read_recipe(path)
            if "compute_environment" in values:
                load_config_from_file(str(path))
                return
            classes = _argument_classes()
            known = [sum(key in cls.__dataclass_fields__ for key in values) for cls in classes]
            build(classes[known.index(max(known))], values)
        except (ValueError, yaml.YAMLError) as error:
            raise Failure(str(error)) from error

    def benchmark(self, script: str, words: list[str]) -> None:
        parse_args = argparse.ArgumentParser.parse_args

        def parse(parser: argparse.ArgumentParser, *given: Any, **more: Any) -> Any:
            parse_args(parser, *given, **more)
            raise Parsed

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [script, *words])
            patch.syspath_prepend(str(ROOT / "benchmarks"))
            patch.setattr(argparse.ArgumentParser, "parse_args", parse)
            with contextlib.suppress(Parsed):
                importlib.import_module(Path(script).stem).main(words)
                raise Failure(f"{script} does not parse its command line with argparse")


def _argument_classes() -> list[type]:
    """What recipes fill in."""
    from encoding.arguments import EncodeArguments
    from tasks.autoencoder_arguments import AutoencoderArguments
    from tasks.generator_arguments import GeneratorArguments
    from tasks.lafa_task import LafaArguments
    from train_dit import DiTArguments

    return [AutoencoderArguments, GeneratorArguments, DiTArguments, LafaArguments, EncodeArguments]
