"""Packages that single metrics need and the library does not install by itself."""

from __future__ import annotations

import importlib
from types import ModuleType


def import_for(purpose: str, module: str, install: str) -> ModuleType:
    """Import `module`, or raise `ImportError` that says what it is needed for and how it is installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{purpose} needs {module.split('.')[0]}: `{install}` ({error}).") from error
