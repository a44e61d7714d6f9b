"""What a run tells: one readable line per log step, the same as JSON lines, and the trackers."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import datasets
import transformers
from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers


def check_trackers(names: list[str]) -> None:
    """Refuse a tracker that accelerate does not know or that is not installed (it would drop it silently)."""
    available = [str(name) for name in get_available_trackers()]
    for name in names:
        if name not in available:
            known = name in [str(key) for key in LOGGER_TYPE_TO_CLASS]
            reason = "is not installed" if known else "is unknown"
            raise ValueError(
                f"report_to tracker {name!r} {reason}; available: {', '.join(available) or 'none'}"
            )


class RunLog:
    """Writes to the terminal, `train.log`, `metrics.jsonl` (main process only) and accelerate's trackers."""

    def __init__(self, accelerator: Accelerator, folder: Path) -> None:
        self.accelerator = accelerator
        self.text = self.metrics = None
        if accelerator.is_main_process:
            folder.mkdir(parents=True, exist_ok=True)
            self.text = (folder / "train.log").open("a", encoding="utf-8", buffering=1)
            self.metrics = (folder / "metrics.jsonl").open("a", encoding="utf-8", buffering=1)

    def say(self, message: str) -> None:
        """One line for people."""
        if self.text is not None:
            print(message, flush=True)
            self.text.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}\n")

    def record(self, step: int, values: dict[str, float]) -> None:
        """Numbers for machines."""
        if self.metrics is not None:
            self.metrics.write(json.dumps({"step": step, **values}) + "\n")
        self.accelerator.log(values, step=step)

    def close(self) -> None:
        self.accelerator.end_training()
        for file in (self.text, self.metrics):
            if file is not None:
                file.close()


def quiet_libraries() -> None:
    """The log has its own progress lines; the bars of saving and loading would cut through them."""
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()


def number(value: float) -> str:
    """Four significant digits, without a long tail of zeros."""
    return f"{value:.3e}" if value and not 1e-3 <= abs(value) < 1e5 else f"{value:.4g}"


def clock(seconds: float) -> str:
    """`1 h 05 min`, `12 min` or `40 s`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def progress_line(step: int, total: str, parts: dict[str, Any]) -> str:
    """`step 100/5000 | name value | …`"""
    return " | ".join([f"step {step}/{total}", *(f"{name} {value}".strip() for name, value in parts.items())])


def fail(message: str, code: int = 1) -> None:
    """End a script with one line on standard error instead of a traceback."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    raise SystemExit(code)
