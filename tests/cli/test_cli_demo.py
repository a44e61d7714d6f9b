"""The options of `star-hf demo`; the command itself runs in `test_browser.py`."""

from __future__ import annotations

import contextlib
import signal
import sys

import pytest

from star_hf.cli.demo import EMBEDDED_PROMPTS


@pytest.fixture
def run_demo(run_cli, monkeypatch):
    """Run the command with a server that ends at once; returns its result and what was served."""
    pytest.importorskip("gradio")
    import star_hf.cli.demo
    import star_hf.demo
    from star_hf.demo.server import Served

    calls = []

    @contextlib.contextmanager
    def serve(autoencoder, pipeline, **options):
        calls.append((autoencoder, pipeline, options))
        yield Served("http://127.0.0.1:7860/", "https://public.example" if options["share"] else None)

    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(star_hf.demo, "serve", serve)
    monkeypatch.setattr(star_hf.cli.demo, "wait_for_interrupt", interrupt)
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)

    def run(*arguments):
        return run_cli("demo", *arguments), calls

    return run


def test_it_listens_to_this_machine_only_unless_told_otherwise(run_demo, tiny_pipeline_folder):
    result, [(autoencoder, pipeline, options)] = run_demo("--model", tiny_pipeline_folder)
    assert result.code == 0, result.stderr
    assert result.stdout == "http://127.0.0.1:7860/\n"
    assert "no password" not in result.stderr
    assert (options["host"], options["port"], options["share"], options["open_browser"]) == (
        "127.0.0.1",
        None,
        False,
        False,
    )
    assert pipeline.vae is autoencoder
    assert options["examples"] == ()


def test_open_addresses_come_with_a_warning(run_demo, tiny_pipeline_folder):
    for arguments in (["--host", "0.0.0.0"], ["--share"]):
        result, _ = run_demo("--model", tiny_pipeline_folder, *arguments)
        assert "there is no password" in result.stderr


def test_limits_reach_the_page(run_demo, tiny_pipeline_folder):
    _, [(_, _, options)] = run_demo("--model", tiny_pipeline_folder, "--max-seconds", 7, "--max-megabytes", 3)
    assert (options["limits"].max_seconds, options["limits"].max_megabytes) == (7, 3)


def test_an_autoencoder_alone_is_served_without_a_pipeline(run_demo, tiny_pipeline_folder):
    _, [(autoencoder, pipeline, _)] = run_demo("--model", tiny_pipeline_folder / "vae")
    assert pipeline is None and type(autoencoder).__name__ == "AutoencoderStar"


def test_the_embedded_checkpoint_comes_with_examples_of_what_it_knows(run_demo):
    _, [(_, _, options)] = run_demo()
    assert options["examples"] == EMBEDDED_PROMPTS
    assert options["name"] == "star-gen-esc10"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--port", "0"], 2, "--port"),
        (["--max-seconds", "0"], 2, "--max-seconds"),
        (["--max-megabytes", "nan"], 2, "--max-megabytes"),
        (["--device", "abacus"], 2, "abacus"),
        (["--model", "no/such/folder"], 1, "no/such/folder: no such folder"),
    ],
)
def test_wrong_options(run_cli, arguments, code, message):
    pytest.importorskip("gradio")
    result = run_cli("demo", *arguments)
    assert result.code == code
    assert message in result.stderr


def test_without_gradio_the_message_says_what_to_install(run_cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    result = run_cli("demo")
    assert result.code == 1
    assert 'the demo needs gradio: `pip install "star-hf[demo]"`' in result.stderr
