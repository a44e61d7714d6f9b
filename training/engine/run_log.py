"""What a run tells: readable lines, the same numbers as JSON lines, sounds and pictures, and the trackers."""

import json
import math
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import transformers
from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

from engine.checkpoints import atomic_folder
from engine.reports import Report
from engine.trackers import finish, forget_later_steps, send_media, start_trackers
from star_hf.audio import write_audio
from star_hf.evaluation.plots import save_figure

METRICS_NAME = "metrics.jsonl"
FILE_NAME_LENGTH = 60  # characters


def check_trackers(names: list[str]) -> None:
    """Refuse a tracker that accelerate does not know or that is not installed (it would drop it silently)."""
    available = [str(name) for name in get_available_trackers()]
    for name in names:
        if name not in available:
            known = name in [str(key) for key in LOGGER_TYPE_TO_CLASS]
            reason = f"is not installed (pip install {name})" if known else "is unknown"
            raise ValueError(
                f"report_to tracker {name!r} {reason}; available: {', '.join(available) or 'none'}"
            )


class RunLog:
    """Writes to the terminal, `train.log`, `metrics.jsonl`, `reports/` and accelerate's trackers.

    Only the main process writes. A full disk or a failing tracker is said once and does not end the run: what
    could not be written is missing, nothing else.
    """

    def __init__(self, accelerator: Accelerator, folder: Path) -> None:
        self.accelerator, self.folder = accelerator, folder
        self.complaints: set[str] = set()
        self.text: LineFile | None = None
        self.metrics: LineFile | None = None
        if accelerator.is_main_process:
            folder.mkdir(parents=True, exist_ok=True)
            self.text = LineFile(folder / "train.log")
            self.metrics = LineFile(folder / METRICS_NAME)

    def start_trackers(self, config: dict[str, Any]) -> None:
        """Open the trackers that accelerate was made with; `config` are the run's arguments."""
        start_trackers(self.accelerator, self.folder, config, self.say)

    def say(self, message: str) -> None:
        """One line for people."""
        if self.text is None:
            return
        try:
            print(message, flush=True)
        except (OSError, UnicodeError):  # nobody listens any more, or not in this alphabet
            pass
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}"
        self._attempt("train.log", lambda: self.text.write(line))

    def record(self, step: int, values: dict[str, float]) -> None:
        """Numbers for machines; one that is not finite is null in `metrics.jsonl`."""
        if self.metrics is not None:
            finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
            line = json.dumps({"step": step, **finite})
            self._attempt(METRICS_NAME, lambda: self.metrics.write(line))
            for tracker in self.accelerator.trackers:
                self._attempt(tracker.name, lambda tracker=tracker: tracker.log(values, step=step))

    def report(self, step: int, report: Report) -> None:
        """Write `reports/step_00001000/` with a WAV per sound and a PNG per picture, and send both on."""
        if self.text is None:
            return
        folder = self.folder / "reports" / f"step_{step:08d}"
        sounds, pictures = _file_names(report.audio, "wav"), _file_names(report.figures, "png")

        def write() -> None:
            with atomic_folder(folder) as temporary:
                for name, file in list(sounds.items()):
                    waveform, sampling_rate = report.audio[name]
                    try:
                        write_audio(temporary / file, waveform, sampling_rate)
                    except ValueError as error:  # a model that has gone wrong makes such sounds
                        del sounds[name]
                        self.say(f"warning: no sound {name!r} at step {step}: {error}")
                for name, file in pictures.items():
                    save_figure(report.figures[name], temporary / file)

        if self._attempt("reports", write):
            media = [{name: folder / file for name, file in files.items()} for files in (sounds, pictures)]
            for tracker in self.accelerator.trackers:
                self._attempt(tracker.name, lambda tracker=tracker: send_media(tracker, step, *media))

    def truncate(self, step: int) -> None:
        """Forget the numbers after `step`, from where a resumed run writes them again."""
        if self.metrics is not None:
            self._attempt(METRICS_NAME, lambda: self.metrics.keep(lambda line: _step_of(line) <= step))
            for tracker in self.accelerator.trackers:
                self._attempt(tracker.name, lambda tracker=tracker: forget_later_steps(tracker, step))

    def close(self) -> None:
        for tracker in self.accelerator.trackers if self.text is not None else []:
            self._attempt(tracker.name, lambda tracker=tracker: finish(tracker))
        self.accelerator.trackers = []
        self.accelerator.end_training()
        for file in (self.text, self.metrics):
            if file is not None:
                file.close()

    def _attempt(self, what: str, action: Callable[[], Any]) -> bool:
        """Whether `action` succeeded; the first failure of `what` is said."""
        try:
            action()
        except Exception as error:  # each tracker has errors of its own
            if what not in self.complaints:
                self.complaints.add(what)
                reason = str(error) or type(error).__name__
                self.say(f"warning: {what} cannot be written, the run goes on without: {reason}")
            return False
        return True


class LineFile:
    """Appends whole lines: one that does not fit on the disk leaves no part of itself behind."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path.open("ab", buffering=0)

    def write(self, line: str) -> None:
        remaining = memoryview(f"{line}\n".encode(errors="backslashreplace"))
        size = self.file.seek(0, os.SEEK_END)
        try:
            while remaining:
                remaining = remaining[self.file.write(remaining) :]
        except OSError:
            self.file.truncate(size)
            raise

    def keep(self, wanted: Callable[[str], bool]) -> None:
        """Drop the other lines; the file changes at once or not at all."""
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if wanted(line)]
        if kept == lines:
            return
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        try:
            temporary.write_text("".join(kept), encoding="utf-8")
            temporary.replace(self.path)
        finally:
            temporary.unlink(missing_ok=True)
        self.file.close()
        self.file = self.path.open("ab", buffering=0)

    def close(self) -> None:
        self.file.close()


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
    """`step 100/5000 | name value | …`, without the parts that have no value."""
    shown = [f"{name} {value}".strip() for name, value in parts.items() if value not in (None, "")]
    return " | ".join([f"step {step}/{total}", *shown])


def fail(message: str, code: int = 1) -> None:
    """End a script with one line on standard error instead of a traceback."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    raise SystemExit(code)


def _file_names(names: Any, suffix: str) -> dict[str, str]:
    """A file name for each name, of letters, digits, `-` and `_`, all different."""
    files: dict[str, str] = {}
    for name in names:
        stem = re.sub(r"[^\w-]+", "_", name).strip("_")[:FILE_NAME_LENGTH] or "unnamed"
        alternatives = (f"{stem}_{index}.{suffix}" for index in range(2, len(files) + 3))
        taken = {file.lower() for file in files.values()}
        candidates = [f"{stem}.{suffix}", *alternatives]
        files[name] = next(file for file in candidates if file.lower() not in taken)
    return files


def _step_of(line: str) -> float:
    """The step of a metrics line; infinity for a line that a killed run left unfinished."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf
