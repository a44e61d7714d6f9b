"""The tests of the pages themselves: what is wrong in a page is found, and told with its place."""

from __future__ import annotations

import re

import pytest
from lent_models import REPOSITORIES
from markdown_pages import Page
from page_runner import PageError, PageRunner
from reader_folder import ReaderFolder
from reader_programs import Programs
from shell_lines import Command, Line, ShellError, commands, lines


@pytest.fixture(scope="module")
def folder(tmp_path_factory, lender):
    return ReaderFolder(tmp_path_factory.mktemp("reader"), lender)


@pytest.fixture
def run(folder, monkeypatch):
    """Run a page with this text; returns the runner."""
    monkeypatch.chdir(folder.folder)

    def run(text: str, **options) -> PageRunner:
        runner = PageRunner(Programs(folder, **options))
        runner.run(Page("page.md", text).blocks())
        return runner

    return run


def block(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```\n"


def test_blocks_of_every_kind_are_found_with_their_place():
    text = "---\na: b\n---\n# Title\n\n```python x=1\na = 1\n```\n\n~~~~text\n```\nb\n~~~~\n"
    text += "words\n\n    c\n\n## More\n\n- item\n\n  ````bash\n  d \\\n    e\n  ````\n\n> ```\n> f\n> ```\n"
    blocks = Page("page.md", text).blocks()
    found = [(block.line, block.language, block.text, block.section, block.follows) for block in blocks]
    assert found == [
        (7, "python", "a = 1\n", 1, False),
        (11, "text", "```\nb\n", 1, True),
        (16, "", "c\n", 1, False),
        (23, "bash", "d \\\n  e\n", 2, False),
        (28, "", "f\n", 2, True),
    ]


def test_a_fence_that_is_never_closed_is_an_error():
    with pytest.raises(AssertionError, match="page.md:3: this fence is never closed"):
        Page("page.md", "words\n\n```python\na = 1\n").blocks()


def test_names_live_on_in_the_page(run):
    runner = run(block("python", "a = 1\nprint('one')") + "\n" + block("python", "a += 1\nprint(a)"))
    assert runner.names["a"] == 2 and runner.printed == "2\n"


WRONG = {
    "no language": ("words\n\n```\na\n```\n", 3, "a block without a language"),
    "a language": (block("perl", "a"), 1, "the language 'perl'"),
    "a name": (block("python", "a = 1\n\nb"), 4, "NameError: name 'b' is not defined"),
    "a syntax": (block("python", "a = 1\nb = = 2"), 3, "SyntaxError"),
    "an import": (block("python", "from star_hf import nonsense"), 2, "cannot import name 'nonsense'"),
    "an exit": (block("python", "raise SystemExit(1)"), 2, "SystemExit: 1"),
    "output": (block("python", "print(1)") + "\n" + block("text", "2"), 6, "not what the block above prints"),
    "words": (
        block("python", "print('1 clip')") + "Elsewhere:\n" + block("text", "2 clips"),
        6,
        "not printed above: 2 clips",
    ),
    "a program": (block("bash", "# words\n\nlaunch-missiles now"), 4, "'launch-missiles' is none of star-hf"),
    "a shell": (block("bash", "star-hf info | grep x"), 2, "more of a shell"),
    "a variable": (block("bash", "star-hf info $NOWHERE"), 2, "NOWHERE has no value"),
    "a command": (block("bash", "star-hf nonsense"), 2, "No such command 'nonsense'"),
    "an option": (block("bash", "star-hf info\nstar-hf info --nonsense"), 3, "No such option: --nonsense"),
    "a folder": (block("bash", "star-hf info no/such/folder"), 2, "no such folder"),
    "a printed line": (
        block("bash", "star-hf info") + block("text", "nonsense"),
        5,
        "not printed above: nonsense",
    ),
    "a script": (block("bash", "python training/none.py"), 2, "'training/none.py' is no script"),
    "a recipe": (
        block("bash", "python training/train_dit.py \\\n  --config training/recipes/none.yaml"),
        2,
        "does not exist",
    ),
    "a key": (
        block("bash", "python training/train_generator.py --output_dirr x"),
        2,
        "did you mean 'output_dir'",
    ),
    "a value": (
        block("bash", "python training/train_generator.py --config training/recipes/generator.yaml --mode x"),
        2,
        "mode must be one of",
    ),
    "a benchmark's option": (
        block("bash", "python benchmarks/decode.py --second 5 --nonsense"),
        2,
        "nonsense",
    ),
    "a launcher's option": (
        block("bash", "accelerate launch --num_procs 2 training/train_dit.py"),
        2,
        "it ends with 2",
    ),
    "a configuration": (
        block("bash", "accelerate launch --config_file none.yaml training/train_dit.py"),
        2,
        "there is no none.yaml",
    ),
    "processes": (
        block("bash", "accelerate launch --cpu --num_processes 2 training/train_dit.py"),
        2,
        "a single process",
    ),
    "a target": (block("bash", "make nonsense"), 2, "No rule to make target"),
    "an extra": (block("bash", 'pip install "star-hf[train,nonsense]"'), 2, "no extra nonsense"),
    "a package": (block("bash", "pip install star-hff"), 2, "star-hff is no package"),
    "constraints": (block("bash", "pip install . -c none.txt"), 2, "there is no none.txt"),
    "hf's option": (block("bash", "hf upload a/b src --nonsense"), 2, "No such option"),
    "hf's folder": (block("bash", "hf upload a/b none"), 2, "there is no none to upload"),
    "a key of a recipe": (block("yaml", "output_dir: a\nlosss: {}"), 2, "did you mean 'losses'"),
    "a base": (block("yaml", "base: none.yaml"), 2, "does not exist"),
    "yaml": (block("yaml", "a: [b"), 2, "expected ',' or ']'"),
    "json": (block("json", '{"a": }'), 2, "Expecting value"),
    "bibtex": (block("bibtex", "@article{a2026b,\n  title = {A\n}"), 2, "balanced braces"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_with_its_line(run, name):
    text, line, message = WRONG[name]
    with pytest.raises(PageError) as error:
        run(text)
    assert str(error.value).startswith(f"page.md:{line}: ")
    assert message in str(error.value)


RIGHT = {
    "output": block("python", "print('a', 3.25)\nprint(2)") + "\n" + block("text", "a …\n2"),
    "output of other data": block("python", "print('a', 3.25)")
    + "Elsewhere:\n"
    + block("text", "a -1,000.5"),
    "output at another size": block(
        "python", "print('step 2 | flow 1.5 flow_t2 3 | left 12 s, 1 file\\nstep 3')"
    )
    + "There:\n"
    + block("text", "step 10 | flow -1.5e-4 flow_t0 9 flow_t2 8 | left 3 min, 3 …\nstep 9 …"),
    "text of another section": block("python", "print(1)") + "# Next\n" + block("text", "a picture"),
    "printed lines": block("bash", "star-hf info --help") + block("text", "Usage: star-hf info …"),
    "make": block("bash", "make test PYTEST_ARGS=-q"),
    "pip": block("bash", 'pip install -e ".[train,eval]" -c constraints.txt; pip install deepspeed'),
    "a clone": block(
        "bash", "git clone https://example.org/star_hf\ncd star_hf && source .venv/bin/activate"
    ),
    "hf": block("bash", "hf auth login\nhf repos create USER/x --type space --space-sdk gradio"),
    "a benchmark": block("bash", "python benchmarks/decode.py --seconds 5 --threads 1"),
    "a study": block("bash", "python training/reproduce_tables.py --only measure --threads 1"),
    "recipes": block("yaml", "base: star_phase2.yaml\nregularizer: {beta_min: 1e-4}")
    + block("yaml", "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_GPU"),
    "toml": block("toml", "a = 1"),
    "json": block("json", '{"a": 1}'),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_passes(run, name):
    run(RIGHT[name])


def test_a_recipe_is_written_where_its_first_line_says(run, folder):
    text = "# mine.yaml\nbase: training/recipes/sao.yaml\nmax_steps: 3"
    run(
        block("yaml", text) + block("bash", "python training/train_autoencoder.py --config mine.yaml"),
        training=False,
    )
    assert (folder.folder / "mine.yaml").read_text() == text + "\n"


def test_the_shell_keeps_variables_and_writes_output(run, folder):
    runner = run(block("bash", "C=d star-hf info > info.txt"))
    assert "AutoencoderStar" in (folder.folder / "info.txt").read_text() and runner.printed == ""
    with pytest.raises(PageError, match="b/c: no such folder"):
        run(block("bash", "export A=b\nstar-hf info $A/c"))


def test_variables_of_the_hub_count_although_it_was_imported_before(run):
    from huggingface_hub import constants

    seen = []
    runner = run("")
    runner.programs.known["look"] = lambda words: seen.append(constants.HF_HUB_OFFLINE)
    runner.run(Page("page.md", block("bash", "HF_HUB_OFFLINE=0 look; HF_HUB_OFFLINE=1 look")).blocks())
    assert seen == [False, True]


def test_what_others_made_is_lent_where_it_is_read(tmp_path, lender):
    folder = ReaderFolder(tmp_path, lender)
    folder.lend(["other=runs/star_phase1/export", "runs/star_phase12", "training/recipes"])
    assert (folder.folder / "runs/star_phase1/export/config.json").is_file()
    assert [path.name for path in (folder.folder / "runs").iterdir()] == ["star_phase1"]
    (folder.folder / "runs/star_phase2").mkdir()
    folder.lend(["runs/star_phase2"])
    assert not list((folder.folder / "runs/star_phase2").iterdir())


def test_the_hub_has_what_a_page_does_not_push(hub, reader):
    from huggingface_hub import HfApi

    hub.absent = {"user/vae"}
    assert HfApi().repo_exists("Qwen/Qwen3-0.6B") and not HfApi().repo_exists("user/vae")
    assert {name for _, name in hub.repositories} == {"Qwen/Qwen3-0.6B"} < set(REPOSITORIES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a \"b c\" 'd' # e", [Command(["a", "b c", "d"])]),
        ("X=1 Y='a b' c x#y", [Command(["c", "x#y"], {"X": "1", "Y": "a b"})]),
        ("a && b; c > d.txt", [Command(["a"]), Command(["b"]), Command(["c"], output="d.txt")]),
        ("a \"$M\" '$M' \\$M ${M}x", [Command(["a", "7", "$M", "$M", "7x"])]),
        ("a *.py '*.py' none.*", [Command(["a", "one.py", "two.py", "*.py", "none.*"])]),
        ("a '' \"x;y>z\" b=c", [Command(["a", "", "x;y>z", "b=c"])]),
    ],
)
def test_a_line_is_read_as_bash_reads_it(text, expected):
    def files(pattern):
        return ["two.py", "one.py"] if pattern == "*.py" else []

    assert commands(text, {"M": "7"}, files) == expected


@pytest.mark.parametrize(
    "text", ["a | b", "a &", "a $(b)", "a `b`", "(a)", "a >> b", "a < b", "a >", "a 'b", "$N", "&& a"]
)
def test_more_of_a_shell_is_refused(text):
    with pytest.raises(ShellError):
        commands(text, {})


def test_continued_lines_are_joined():
    assert list(lines("# a\n\nb \\\n    c \\\n    d\ne\n")) == [Line(2, "b c d"), Line(5, "e")]
    with pytest.raises(ShellError, match=re.escape("ends in a backslash: a \\")):
        list(lines("a \\"))
