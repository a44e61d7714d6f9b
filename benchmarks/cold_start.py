"""Cold start: the whole of `star-hf generate`, against a Python process that only imports the libraries.

python benchmarks/cold_start.py

Wall time of processes that take turns, from nothing running to the file written: the embedded checkpoint,
five seconds of audio, 24 steps. First the file's samples are compared with those of the pipeline in this
process, from the same seed. The files of all are in the page cache after the first turn, which is not
counted. diffusers and transformers import most of themselves only when it is used: the second peer imports,
from each, what a pipeline of diffusers needs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import torch
from common import relative_error, require_agreement, run_benchmark
from measurements import Measurement, Report
from models import embedded_pipeline

from star_hf.audio import read_audio

WATCH_SECONDS = 0.005
PROMPT, SEED = "a dog barking", 0
TOLERANCE = 1e-2  # relative, of samples in 16 bits
IMPORTS = {
    "importing torch, transformers, diffusers": "import torch, transformers, diffusers",
    "the same, and a model of each": (
        "import torch; from transformers import Qwen3Model; "
        "from diffusers import AutoencoderOobleck, DiffusionPipeline"
    ),
}
TARGETS = {"importing torch, transformers, diffusers": "cold start"}


def generate_command(output: Path, seconds: float, steps: int) -> list[str]:
    """The installed command where there is one beside this Python, else its `main`."""
    script = Path(sys.executable).with_name("star-hf")
    start = (
        [str(script)] if script.is_file() else [sys.executable, "-c", "from star_hf.cli import main; main()"]
    )
    options = {"--seconds": seconds, "--steps": steps, "--seed": SEED, "--device": "cpu", "--output": output}
    return [*start, "generate", PROMPT, *(str(part) for pair in options.items() for part in pair)]


def run_process(command: Sequence[str], threads: int, watch: bool = False) -> tuple[float, int]:
    """Wall seconds of a process, and its peak bytes where it is watched, which may slow it down.

    Raises `ValueError` with the last line that it said where it fails.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # compiled files are there after the first turn
    peak = 0
    with tempfile.TemporaryFile() as said:
        started = time.perf_counter()
        process = psutil.Popen(command, stdout=said, stderr=subprocess.STDOUT, env=environment)
        while watch and process.poll() is None:
            with suppress(psutil.Error):  # it may end in between
                peak = max(peak, process.memory_info().rss)
            time.sleep(WATCH_SECONDS)
        code = process.wait()
        seconds = time.perf_counter() - started
        if code != 0:
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().splitlines()
            raise ValueError(f"{command[0]} ended with {code}: {lines[-1] if lines else 'it said nothing'}")
    return seconds, peak


def check(output: Path, arguments: argparse.Namespace) -> float:
    """The written file's error against the pipeline, which is at most `TOLERANCE`."""
    written, _ = read_audio(output)
    pipeline = embedded_pipeline(torch.device("cpu"), torch.float32)
    expected = pipeline(
        [PROMPT],
        audio_length_in_s=arguments.seconds,
        num_inference_steps=arguments.steps,
        generator=[torch.Generator("cpu").manual_seed(SEED)],
    ).audios[0]
    # A file holds no more than full scale.
    expected = expected / expected.abs().max().clamp(min=1.0)
    if written.shape != expected.shape:
        raise ValueError(f"the file is of shape {tuple(written.shape)}, the clip {tuple(expected.shape)}.")
    error = relative_error(written, expected)
    require_agreement("the written file", error, TOLERANCE, "the pipeline's clip")
    return error


def measure(arguments: argparse.Namespace) -> Report:
    threads = torch.get_num_threads()
    folder = Path(tempfile.mkdtemp())
    try:
        output = folder / "clip.wav"
        commands = [
            generate_command(output, arguments.seconds, arguments.steps),
            *([sys.executable, "-c", code] for code in IMPORTS.values()),
        ]
        peak, *peer_peaks = (run_process(command, threads, watch=True)[1] for command in commands)
        error = check(output, arguments)
        turns = [[run_process(command, threads)[0] for command in commands] for _ in range(arguments.repeats)]
    finally:
        shutil.rmtree(folder)
    seconds, *peer_seconds = (statistics.median(taken) for taken in zip(*turns, strict=True))
    measurements = [
        Measurement(
            what=f"star-hf generate, cold, {arguments.seconds:g} s of audio",
            peer_name=name,
            precision="float32",
            device="cpu",
            ours=seconds,
            peer=taken,
            ratio=seconds / taken,
            target=TARGETS.get(name),
            our_bytes=peak,
            peer_bytes=peer_peak,
            error=error,
            tolerance=TOLERANCE,
        )
        for name, taken, peer_peak in zip(IMPORTS, peer_seconds, peer_peaks, strict=True)
    ]
    setting = {
        "seconds": arguments.seconds,
        "steps": arguments.steps,
        "repeats": arguments.repeats,
        "warm_up": "one process of each",
        "memory": "of the whole process",
    }
    return Report(setting=setting, measurements=measurements)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=5.0, help="of audio [5]")
    parser.add_argument("--steps", type=int, default=24, help="of the sampling [24]")
    parser.add_argument("--repeats", type=int, default=5, help="timed processes of each [5]")


def main(argv: list[str] | None = None) -> None:
    run_benchmark(__doc__, measure, add_options, argv, positive=("seconds", "steps", "repeats"))


if __name__ == "__main__":
    main()
