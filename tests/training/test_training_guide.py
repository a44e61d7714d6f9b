"""training/README.md: its arithmetic, its commands, its options."""

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "training" / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


def test_the_code_prints_what_the_guide_shows():
    (shown,) = blocks("text")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for code in blocks("python"):
            exec(compile(code, "training/README.md", "exec"), {})
    assert printed.getvalue() == shown


def test_files_that_the_guide_names_exist():
    named = set(re.findall(r"(?:training|benchmarks|tests)/[\w/]+\.(?:py|yaml)", GUIDE))
    assert len(named) > 10
    assert not [name for name in named if not (ROOT / name).is_file()]
    recipes = re.findall(r"recipes? (`\w+`(?:[^|;`]*`\w+`)*)", GUIDE)
    names = {name for row in recipes for name in re.findall(r"`(\w+)`", row)}
    assert {"star_phase1", "generator_lora", "dit_v"} <= names
    assert not [name for name in names if not (ROOT / f"training/recipes/{name}.yaml").is_file()]


@pytest.mark.parametrize("script", ["train_autoencoder", "train_generator"])
def test_options_in_the_commands_exist(script):
    from engine.arguments import parse_arguments
    from tasks.autoencoder_arguments import AutoencoderArguments
    from tasks.generator_arguments import GeneratorArguments

    cls = {"train_autoencoder": AutoencoderArguments, "train_generator": GeneratorArguments}[script]
    commands = [
        line.split(f"{script}.py", 1)[1]
        for block in blocks("bash")
        for line in block.replace("\\\n", " ").splitlines()
        if f"{script}.py" in line
    ]
    assert len(commands) >= 3
    for command in commands:
        argv = [word.strip('"') for word in command.split()]
        parse_arguments(cls, [str(ROOT / word) if word.endswith(".yaml") else word for word in argv])
