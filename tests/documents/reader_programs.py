"""What each program of a `bash` block does here: it runs at small size, or its options are parsed.

`star-hf` and the training scripts run in this process, without the seconds that processes of their own take
to start. Only parsed are: options of launchers, since `tests/training/test_distributed.py` starts them;
benchmarks and studies of many runs, which their own tests run; `hf` and `pip`, which would need a network.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import shell_lines
import small_budgets
from markdown_pages import ROOT
from packaging.requirements import Requirement
from reader_folder import ReaderFolder
from repository_scripts import Failure, Scripts

#: What follows these is written, not read.
OUTPUT_OPTIONS = ("-o", "--output", "--output_dir", "--json")
#: Packages that pages name and pyproject.toml does not.
OTHER_PACKAGES = ("deepspeed", "torchao")
#: Refusals of a command line that only lacks something, which those in running text do.
INCOMPLETE = ("MissingParameter", "NoArgsIsHelpError")


class Programs:
    """Runs commands in a reader's folder.

    Args:
        reader: the folder.
        training: whether training scripts run; else their command lines are parsed and checked.
    """

    def __init__(self, reader: ReaderFolder, training: bool = True) -> None:
        self.reader, self.scripts = reader, Scripts(reader, training)
        self.cloned: str | None = None
        self.known: dict[str, Callable[[list[str]], object]] = {
            "star-hf": self.star_hf,
            "python": self.python,
            "accelerate": self.accelerate,
            "torchrun": self.torchrun,
            "make": self.make,
            "pip": self.pip,
            "hf": self.hf,
            "git": self.git,
            "cd": self.cd,
            "source": self.source,
        }

    def run(self, words: Sequence[str]) -> None:
        """Raises `Failure` for a command that fails, and for a program that is not known here."""
        program, *rest = words
        if program not in self.known:
            known = ", ".join(self.known)
            raise Failure(f"{program!r} is none of {known}: see tests/documents/reader_programs.py")
        try:
            with pytest.MonkeyPatch.context() as patch:
                _draw_nothing(patch)
                self.known[program](rest)
        except SystemExit as stop:
            if stop.code not in (None, 0):
                raise Failure(f"it ends with {stop.code!r}") from None

    def star_hf(self, words: list[str]) -> None:
        import star_hf.cli

        self.reader.lend(_inputs(words))
        name = next((word for word in words if not word.startswith("-")), "")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["star-hf", *words, *small_budgets.of_command(name)])
            if name == "demo":
                _serve_for_no_time(patch)
            star_hf.cli.main()

    def python(self, words: list[str]) -> None:
        if words[:2] == ["-m", "pip"]:
            return self.pip(words[2:])
        if words[:2] == ["-m", "venv"]:
            return None
        script = words[0] if words else ""
        folder = script.partition("/")[0]
        if not (ROOT / script).is_file() or folder not in ("training", "benchmarks"):
            raise Failure(f"{script!r} is no script in training/ or benchmarks/")
        return (self.scripts.train if folder == "training" else self.scripts.benchmark)(script, words[1:])

    def accelerate(self, words: list[str]) -> None:
        from accelerate.commands.launch import _validate_launch_command, launch_command_parser

        if words[:1] != ["launch"]:
            raise Failure("only `accelerate launch` is known here")
        options = launch_command_parser().parse_args(words[1:])
        if options.config_file is not None and not Path(options.config_file).is_file():
            raise Failure(f"there is no {options.config_file}")
        options, _, _ = _validate_launch_command(options)
        if options.num_processes > 1 and not (options.multi_gpu or options.use_fsdp or options.use_deepspeed):
            raise Failure("accelerate would start a single process")
        self.python([options.training_script, *options.training_script_args])

    def torchrun(self, words: list[str]) -> None:
        from torch.distributed.run import get_args_parser

        options = get_args_parser().parse_args(words)
        self.python([options.training_script, *options.training_script_args])

    def make(self, words: list[str]) -> None:
        """What make would run of ours is run."""
        made = subprocess.run(["make", "--dry-run", *words], capture_output=True, text=True, check=False)
        if made.returncode:
            raise Failure(made.stderr.strip())
        for line in made.stdout.splitlines():
            own = re.match(r"\.venv/bin/(star-hf .*|python (?:training|benchmarks)/.*)", line)
            for command in shell_lines.commands(own[1], {}) if own else ():
                self.run(command.words)

    def pip(self, words: list[str]) -> None:
        """The extras and packages of `pip install` are those of pyproject.toml, and its files exist."""
        if words[:1] != ["install"]:
            raise Failure("only `pip install` is known here")
        parser = argparse.ArgumentParser()
        for names in (("-c", "--constraint"), ("-r", "--requirement")):
            parser.add_argument(*names, action="append", default=[], dest="files")
        parser.add_argument("-e", "--editable", action="append", default=[], dest="packages")
        parser.add_argument("-U", "--upgrade", action="store_true")
        parser.add_argument("packages", nargs="*", action="extend", default=[])
        options = parser.parse_args(words[1:])
        if missing := [file for file in options.files if not Path(file).is_file()]:
            raise Failure(f"there is no {', '.join(missing)}")
        extras = _dependencies()
        listed = {Requirement(entry).name for entries in extras.values() for entry in entries}
        for text in options.packages:
            requirement = Requirement(re.sub(r"^\.(?=\[|$)", "star-hf", text))
            if requirement.name != "star-hf" and requirement.name not in listed.union(OTHER_PACKAGES):
                raise Failure(f"{requirement.name} is no package that pyproject.toml names")
            if requirement.name == "star-hf" and not requirement.extras <= set(extras):
                raise Failure(f"pyproject.toml has no extra {', '.join(requirement.extras - set(extras))}")

    def hf(self, words: list[str]) -> None:
        from huggingface_hub.cli.hf import app

        local = parse_command(app, "hf", words).get("local_path")
        if local is not None and not Path(local).exists():
            raise Failure(f"there is no {local} to upload")

    def git(self, words: list[str]) -> None:
        if words[:1] != ["clone"] or len(words) < 2:
            raise Failure("only `git clone URL` is known here")
        self.cloned = words[2] if len(words) > 2 else Path(words[1]).stem

    def cd(self, words: list[str]) -> None:
        """Go to a folder; the clone is where the reader is already."""
        if words != [self.cloned]:
            os.chdir(*words)

    def source(self, words: list[str]) -> None:
        if words != [".venv/bin/activate"]:
            raise Failure("only `source .venv/bin/activate` is known here")


def parse_command(app: Any, name: str, words: list[str]) -> dict[str, Any]:
    """The options of a command of a Typer application. Raises `Failure` for what its parser refuses."""
    import typer

    command = typer.main.get_command(app) if isinstance(app, typer.Typer) else app
    context, rest = None, list(words)
    try:
        while True:
            context = command.make_context(name, rest, parent=context)
            if not hasattr(command, "resolve_command"):
                return context.params
            before = getattr(context, "_protected_args", None) or getattr(context, "protected_args", [])
            rest = [*before, *context.args]
            name, command, rest = command.resolve_command(context, rest)
    except Exception as error:  # of the click that the application uses, whichever that is
        if type(error).__name__ in INCOMPLETE:
            return {}
        raise Failure(str(error).splitlines()[0]) from error


def _inputs(words: list[str]) -> list[str]:
    """The words without those that name what a command writes."""
    return [word for before, word in zip(["", *words], words, strict=False) if before not in OUTPUT_OPTIONS]


def _draw_nothing(patch: pytest.MonkeyPatch) -> None:
    """Commands leave their pictures blank, which spares half of the time; their own tests draw them."""
    from matplotlib.figure import Figure

    save = Figure.savefig

    def save_blank(figure: Figure, *given: Any, **options: Any) -> None:
        save(Figure(figsize=(1, 1)), *given, **options)

    patch.setattr(Figure, "savefig", save_blank)


def _serve_for_no_time(patch: pytest.MonkeyPatch) -> None:
    """`star-hf demo` up to the server, which `tests/demo/test_browser.py` starts."""
    import star_hf.cli.demo
    import star_hf.demo
    from star_hf.demo.server import Served

    def interrupt() -> None:
        raise KeyboardInterrupt

    served = Served("http://127.0.0.1:7860/", None)
    patch.setattr(star_hf.demo, "serve", lambda *_, **__: contextlib.nullcontext(served))
    patch.setattr(star_hf.cli.demo, "wait_for_interrupt", interrupt)
    patch.setattr(signal, "signal", lambda *_: None)


def _dependencies() -> dict[str, list[str]]:
    """What the package's extras need, and under "" what it needs without them."""
    if sys.version_info < (3, 11):  # tomllib is not there yet
        package = metadata.metadata("star-hf")
        return {"": package.get_all("Requires-Dist"), **dict.fromkeys(package.get_all("Provides-Extra"), [])}
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {"": project["dependencies"], **project["optional-dependencies"]}
