"""The rows of `make bench`: which scripts it runs, in which order, with which options."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One script and what it measures.

    Attributes:
        name: of the script, and of its JSON.
        title: for the page.
        minutes: how long it takes on two AVX-512 cores, estimated from its floating point operations.
        options: of the full command.
        tiny_options: of the command's `--tiny`.
        takes_threads: whether it has the option `--threads`.
        needs_gpu: whether it has nothing to measure without one.
    """

    name: str
    title: str
    minutes: float
    options: tuple[str, ...] = ()
    tiny_options: tuple[str, ...] = ()
    takes_threads: bool = True
    needs_gpu: bool = False

    @property
    def script(self) -> str:
        return f"{self.name}.py"


ROWS = {
    row.name: row
    for row in (
        Row(
            "decode",
            "Decode and encode",
            2.5,
            ("--repeats", "3"),
            ("--tiny", "--seconds", "0.2", "--repeats", "1"),
        ),
        Row(
            "memory",
            "Ten minutes against thirty seconds",
            6.0,
            (),
            ("--tiny", "--seconds", "8", "2", "--tile-seconds", "1", "--check-seconds", "4"),
        ),
        Row(
            "context",
            "Bidirectional Mamba against the whole encode",
            1.5,
            (),
            ("--tiny", "--frames", "40", "80", "160", "--repeats", "1"),
        ),
        Row(
            "sampling",
            "Sampling with the text computed once",
            2.0,
            (),
            ("--tiny", "--frames", "20", "--steps", "4", "--timed-steps", "2"),
        ),
        Row(
            "batching",
            "Eight prompts at once",
            2.5,
            (),
            ("--tiny", "--sizes", "full", "--seconds", "1", "--steps", "3"),
        ),
        Row(
            "pipeline",
            "The whole pipeline against Stable Audio's",
            0.0,
            (),
            ("--tiny", "--seconds", "0.5", "--steps", "2", "--repeats", "1"),
            needs_gpu=True,
        ),
        Row(
            "cold_start",
            "Cold start",
            1.0,
            (),
            ("--tiny", "--seconds", "0.5", "--steps", "2", "--repeats", "1"),
        ),
        Row(
            "encode_dataset",
            "A data set to latents on two processes",
            2.0,
            (),
            ("--tiny", "--clips", "8", "--seconds", "0.5"),
        ),
        Row(
            "options",
            "Options that a user turns on",
            4.0,
            (),
            ("--tiny", "--steps", "2", "--repeats", "1", "--options", "bfloat16", "slicing"),
        ),
        Row(
            "train_step",
            "Training steps",
            2.0,
            ("--recipe", "autoencoder", "--crop", "16384", "--repeats", "1", "--no-memory"),
            ("--size", "tiny", "--crop", "4096", "--generator-batch", "2", "--repeats", "1", "--no-memory"),
        ),
        Row(
            "data_loading",
            "Reading training crops",
            0.5,
            ("--formats", "flac", "--containers", "folder", "tar", "--num_workers", "0", "2"),
            (
                *("--formats", "flac", "--containers", "folder", "--num_workers", "0", "--clips", "4"),
                *("--seconds", "1", "--crop_samples", "8192", "--batch_size", "2"),
                *("--measure_seconds", "0.05"),
            ),
            takes_threads=False,
        ),
    )
}
