"""docs/publishing.md: its code runs against the stand-in, and its options exist."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
from stand_in import User

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "publishing.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_code_runs_as_it_stands(hub, client, capsys):
    client(hub.add_user("hf_" + "us" * 17, User("user")))
    names: dict = {}
    for code in blocks("python"):
        exec(compile(code, "docs/publishing.md", "exec"), names)
    assert (
        type(names["pipe"]).__name__ == "StarGenPipeline" and type(names["model"]).__name__ == "StarGenModel"
    )
    printed = capsys.readouterr().out
    assert "a StarGenPipeline" in printed and f"{hub.url}/user/name {names['result'].commit}" in printed
    assert hub.repository("user/name").private


def test_the_commands_have_these_options(monkeypatch, capsys):
    import star_hf.cli.push
    from star_hf.cli import main

    monkeypatch.setattr(star_hf.cli.push, "plan_upload", lambda *_, **__: pytest.skip("parsed"))
    commands = [line.split(" #")[0] for block in blocks("bash") for line in block.splitlines()]
    pushes = [command for command in commands if command.startswith("star-hf push")]
    assert len(pushes) == 2
    for command in pushes:
        monkeypatch.setattr(sys, "argv", [*shlex.split(command), "--dry-run"])
        with pytest.raises(pytest.skip.Exception):
            main()
    monkeypatch.setattr(sys, "argv", ["star-hf", "push", "--help"])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        main()
    shown = capsys.readouterr().out
    options = set(re.findall(r"`(--[a-z-]+)[ `]", PAGE))
    assert options >= {"--private", "--overwrite"} and not [
        option for option in options if option not in shown
    ]


def test_the_options_of_the_scripts_exist():
    sys.path.insert(0, str(ROOT / "training"))
    publishing = pytest.importorskip("engine.publishing")
    fields = set(publishing.PublishingArguments.__dataclass_fields__)
    named = set(re.findall(r"--((?:push_to_hub|hub_)\w*)", PAGE))
    assert named == fields
