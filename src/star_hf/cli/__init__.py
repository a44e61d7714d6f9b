"""The `star-hf` command. Heavy libraries are imported by the commands, so that `--help` is instant."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import traceback
from typing import Annotated, NoReturn

import typer

from star_hf import __version__
from star_hf.cli import audit, card, demo, evaluate, generate, info, probe, push, reconstruct

app = typer.Typer(
    name="star-hf",
    help="Text to audio, audio to latents and back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(no_args_is_help=True)(generate.generate)
app.command(no_args_is_help=True)(reconstruct.reconstruct)
app.command(no_args_is_help=True)(evaluate.evaluate)
app.command(no_args_is_help=True)(audit.audit)
app.command(no_args_is_help=True)(probe.probe)
app.command(no_args_is_help=True)(card.card)
app.command(no_args_is_help=True)(push.push)
app.command()(info.info)
app.command()(demo.demo)

_debug = False


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit()


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version),
    ] = False,
) -> None:
    global _debug
    _debug = debug


def main() -> None:
    """Run `star-hf`. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    try:
        app(prog_name="star-hf")
    except Exception as error:
        if _debug:
            traceback.print_exc()
        print(f"error: {_one_line(error)}", file=sys.stderr)
        sys.exit(1)


def run() -> NoReturn:
    """`main` as a process of its own. It ends at once: taking PyTorch's modules down takes half a second."""
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code
    if not isinstance(code, int) or any(
        not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()
    ):
        sys.exit(code)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # nobody reads any more, or the disk is full
            code = code or 1
    os._exit(code)


def _one_line(error: Exception) -> str:
    message = " ".join(str(error).split())
    # These say what is wrong in words meant for a person; of others the type is half of the message.
    expected = isinstance(error, (ValueError, TypeError, OSError)) and message
    return message if expected else f"{type(error).__name__}: {message}".rstrip(": ")
