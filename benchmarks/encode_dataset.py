"""A data set to latents by training/encode_latents.py: two processes against one.

python benchmarks/encode_dataset.py

Clips of noise in FLAC, the embedded checkpoint's autoencoder, on the CPU. Every process has one thread, so
that two of them have twice the machine of one; a single process with two threads stands beside them. The
runs' Parquet files must hold the same rows, bit for bit. Clips per second are those that the script itself
reports: from the moment that a process has its model to the last clip; the seconds of whole commands, with
imports and all, stand below, and weigh less the larger the data set is.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import soundfile
from common import run_benchmark
from machine import usable_cores
from measurements import Measurement, Report, faster

from star_hf import embedded_checkpoint

SCRIPT = Path(__file__).parents[1] / "training" / "encode_latents.py"
SAMPLING_RATE, CHANNELS = 44100, 2
RATE = re.compile(r"\| ([\d.]+) clips/s \|")


@dataclass(frozen=True)
class Run:
    """One run of the script: its latents, the rate that it reports, and its wall seconds."""

    latents: pyarrow.Table
    clips_per_second: float
    seconds: float


def write_clips(folder: Path, clips: int, seconds: float) -> None:
    """Noise of different loudness; of one length, as a batch would have it."""
    random = np.random.default_rng(0)
    for index in range(clips):
        noise = random.standard_normal((round(seconds * SAMPLING_RATE), CHANNELS), dtype=np.float32)
        soundfile.write(folder / f"clip{index:04d}.flac", 0.05 * (1 + index % 4) * noise, SAMPLING_RATE)


def encode(source: Path, output: Path, processes: int, threads: int, vae: Path) -> Run:
    """Raises `ValueError` with the last line of the script where it fails."""
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(output.with_name("cache")),
    }
    command = [*start, str(SCRIPT), *script_options(source, output, threads, vae)]
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise ValueError(f"{SCRIPT.name} ended with {done.returncode}: {lines[-1] if lines else 'no word'}")
    rates = RATE.findall(done.stdout)
    if not rates:
        raise ValueError(f"{SCRIPT.name} did not say how many clips per second it encoded.")
    files = sorted(output.glob("*.parquet"))
    latents = pyarrow.concat_tables(pyarrow.parquet.read_table(file) for file in files)
    return Run(latents, float(rates[-1]), seconds)


def script_options(source: Path, output: Path, threads: int, vae: Path) -> list[str]:
    options = {
        "--vae": vae,
        "--source": source,
        "--output_dir": output,
        "--threads": threads,
        "--text_column": "null",
        "--log_seconds": 3600,
    }
    return [str(part) for pair in options.items() for part in pair]


def require_same_latents(runs: dict[str, Run]) -> None:
    """Raise `ValueError` where the runs have not written the same rows in the same order."""
    (first, expected), *others = runs.items()
    for name, run in others:
        if not run.latents.equals(expected.latents):
            raise ValueError(f"latents of {name} differ from those of {first}.")


def measure(arguments: argparse.Namespace) -> Report:
    vae = arguments.vae or embedded_checkpoint() / "vae"
    ways = {"one process": (1, 1), "2 processes": (2, 1), "one process with 2 threads": (1, 2)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "clips"
        source.mkdir()
        write_clips(source, arguments.clips, arguments.seconds)
        runs = {
            way: encode(source, folder / f"latents{index}", *numbers, vae)
            for index, (way, numbers) in enumerate(ways.items())
        }
    require_same_latents({way: run for way, run in runs.items() if ways[way][1] == 1})
    one, two, threads = runs.values()
    shared = {"precision": "float32", "device": "cpu"}
    measurements = [
        Measurement(
            what=f"data set to latents, {name}",
            peer_name=peer,
            ours=ours.clips_per_second,
            peer=other.clips_per_second,
            ratio=ours.clips_per_second / other.clips_per_second,
            unit="/s",
            target=target,
            error=error,
            tolerance=error,
            **shared,
        )
        for name, peer, ours, other, target, error in (
            ("2 processes", "one process", two, one, "two processes", 0.0),
            ("2 processes", "one process with 2 threads", two, threads, None, None),
        )
    ]
    measurements.append(
        faster("the whole command, 2 processes", "one process", two.seconds, one.seconds, **shared)
    )
    setting = {
        "clips": arguments.clips,
        "clip_seconds": arguments.seconds,
        "cores": usable_cores(),
        "threads_of_a_process": 1,
        "repeats": 1,
        "warm_up": "none",
    }
    return Report(setting=setting, measurements=measurements)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clips", type=int, default=150, help="of noise [150]")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a clip [10]")
    parser.add_argument("--vae", type=Path, help="another autoencoder's folder [the embedded checkpoint's]")


def main(argv: list[str] | None = None) -> None:
    run_benchmark(__doc__, measure, add_options, argv, positive=("clips", "seconds"))


if __name__ == "__main__":
    main()
