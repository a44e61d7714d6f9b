"""training/README.md and docs/scaling.md: the files, recipes and options that they name exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE, SCALING = ("training/README.md", "docs/scaling.md")
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in (GUIDE, SCALING)}


def commands(script):
    """The options of each command that runs `script`, as lists of words."""
    for text in TEXTS.values():
        for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if f"{script}.py" in line:
                    yield [word.strip('"') for word in line.split(f"{script}.py", 1)[1].split()]


@pytest.mark.parametrize("page", TEXTS)
def test_files_that_a_page_names_exist(page):
    named = set(re.findall(r"(?:training|benchmarks|tests)/[\w/]+\.(?:py|yaml)", TEXTS[page]))
    assert len(named) > 5
    assert not [name for name in named if not (ROOT / name).is_file()]


def test_recipes_that_the_guide_names_exist():
    rows = re.findall(r"recipes? (`\w+`(?:[^|;`]*`\w+`)*)", TEXTS[GUIDE])
    names = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert {"star_phase1", "generator_lora", "dit_v"} <= names
    assert not [name for name in names if not (ROOT / f"training/recipes/{name}.yaml").is_file()]


@pytest.mark.parametrize("script", ["train_autoencoder", "train_generator"])
def test_options_in_the_commands_exist(script):
    from engine.arguments import parse_arguments
    from tasks.autoencoder_arguments import AutoencoderArguments
    from tasks.generator_arguments import GeneratorArguments

    cls = {"train_autoencoder": AutoencoderArguments, "train_generator": GeneratorArguments}[script]
    found = list(commands(script))
    assert len(found) >= 3
    for words in found:
        parse_arguments(cls, [str(ROOT / word) if word.endswith(".yaml") else word for word in words])


def test_the_guide_leads_to_what_moved():
    for page in ("scaling", "troubleshooting"):
        assert f"](../docs/{page}.md)" in TEXTS[GUIDE]
