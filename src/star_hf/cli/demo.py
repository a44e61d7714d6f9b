"""`star-hf demo`: the page to play with."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from star_hf.cli import options
from star_hf.cli.console import Reporter
from star_hf.cli.models import load_autoencoder, load_pipeline
from star_hf.cli.runtime import choose_device, choose_dtype, fast_imports, keep_freed_memory
from star_hf.hub import EMBEDDED_NAME, resolve_model

if TYPE_CHECKING:
    import torch

# One caption of each kind of sound that the embedded checkpoint was trained on.
EMBEDDED_PROMPTS = (
    "a dog barking",
    "a rooster crowing",
    "rain falling",
    "sea waves crashing on the shore",
    "crackling fire",
    "a clock ticking",
    "someone sneezes",
    "a helicopter flying",
    "a chainsaw running",
    "a baby crying",
)
LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")


def demo(
    model: options.Model = None,
    host: Annotated[str, typer.Option("--host", help="0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, show_default="the first free one from 7860 on")
    ] = None,
    share: Annotated[
        bool, typer.Option("--share", help="Make a public link through Gradio's servers.")
    ] = False,
    open_browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in a browser.")
    ] = False,
    max_seconds: Annotated[
        float, typer.Option("--max-seconds", help="Of an upload or a clip.", callback=options.positive)
    ] = 60.0,
    max_megabytes: Annotated[
        float, typer.Option("--max-megabytes", help="Of an upload.", callback=options.positive)
    ] = 50.0,
    device: options.Device = "auto",
    dtype: options.Dtype = None,
) -> None:
    """Serve a page to generate, to reconstruct, and to look into the latents."""
    folder = resolve_model(model)
    reporter = Reporter(as_json=False)
    with fast_imports():
        _require_packages()
        from star_hf.demo import Limits, serve
        from star_hf.demo.server import check_address

        check_address(host, port)
        limits = Limits(max_seconds=max_seconds, max_megabytes=max_megabytes)
        chosen_device = choose_device(device)
        chosen_dtype = choose_dtype(dtype, chosen_device)
        keep_freed_memory()
        name = EMBEDDED_NAME if model is None else model
        with reporter.progress(f"loading {name}", 1):
            autoencoder, pipeline = _load(folder, chosen_device, chosen_dtype)
    reporter.note("starting the page")
    # A `kill` ends the page as Ctrl+C does: in order, without leaving its files behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with serve(
            autoencoder,
            pipeline,
            name=name,
            examples=EMBEDDED_PROMPTS if model is None else (),
            limits=limits,
            host=host,
            port=port,
            share=share,
            open_browser=open_browser,
        ) as served:
            reporter.result(served.url)
            if served.public is not None:
                reporter.result(served.public)
            if served.public is not None or host not in LOCAL_HOSTS:
                reporter.warn(
                    "whoever reaches this address can use this machine's model; there is no password."
                )
            reporter.note("Ctrl+C ends it.")
            wait_for_interrupt()
    except KeyboardInterrupt:
        reporter.note("stopped")


def wait_for_interrupt() -> None:
    """Return by `KeyboardInterrupt` only."""
    threading.Event().wait()


def _require_packages() -> None:
    from star_hf.evaluation.optional_packages import import_for

    for module in ("gradio", "matplotlib", "scipy"):
        import_for("the demo", module, 'pip install "star-hf[demo]"')


def _load(folder: Path, device: torch.device, dtype: torch.dtype) -> tuple[Any, Any]:
    """The autoencoder, and the pipeline that it belongs to, if there is one."""
    if not (folder / "model_index.json").is_file():
        return load_autoencoder(folder, device, dtype), None
    pipeline = load_pipeline(folder, device, dtype)
    return pipeline.vae, pipeline
