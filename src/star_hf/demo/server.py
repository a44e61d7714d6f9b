"""The page on a port of this machine, with a folder of its own that goes when it ends."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .limits import Limits
from .studio import Studio

LOCALHOST = "127.0.0.1"
MAX_SESSIONS = 100  # whose encoded clips are kept


@dataclass(frozen=True)
class Served:
    """Where the page is; `public` only if it was shared."""

    url: str
    public: str | None


def check_address(host: str, port: int | None = None) -> None:
    """Raise `OSError` unless something can listen there; without a port only the host is tried."""
    where = f"host {host}" if port is None else f"host {host}, port {port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except OSError as error:
        raise OSError(f"The page cannot listen on {where}: {error.strerror or error}.") from error


@contextmanager
def serve(
    autoencoder: Any,
    pipeline: Any = None,
    *,
    name: str = "",
    examples: Sequence[str] = (),
    limits: Limits | None = None,
    host: str = LOCALHOST,
    port: int | None = None,
    share: bool = False,
    open_browser: bool = False,
) -> Iterator[Served]:
    """Serve the demo of a model inside a `with` statement.

    Meanwhile Gradio's files go to a temporary folder, and it sends no analytics, in all of this process.

    Args:
        autoencoder, pipeline, name, limits: see `Studio`.
        examples: prompts to click on.
        host: the address to listen on; "0.0.0.0" is every network that the machine is in.
        port: by default the first free one from 7860 on.
        share: make a public link through Gradio's servers.

    Raises:
        OSError: the port is taken, or the address is none of this machine.
    """
    check_address(host, port)
    limits = limits or Limits()
    with (
        tempfile.TemporaryDirectory(prefix="star-hf-demo-") as folder,
        # Read when components are made and when events are sent.
        _environment(GRADIO_TEMP_DIR=folder, GRADIO_ANALYTICS_ENABLED="False"),
    ):
        from .page import CSS, build_page, page_theme

        page = build_page(Studio(autoencoder, pipeline, folder=folder, limits=limits, name=name), examples)
        try:
            _, url, public = page.launch(
                server_name=host,
                server_port=port,
                share=share,
                inbrowser=open_browser,
                max_file_size=limits.max_upload_bytes,
                state_session_capacity=MAX_SESSIONS,
                theme=page_theme(),
                css_paths=[CSS],
                footer_links=["settings"],
                run_history=False,
                ssr_mode=False,
                pwa=False,
                prevent_thread_lock=True,
                quiet=True,
            )
            yield Served(url, public)
        finally:
            page.close(verbose=False)


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
