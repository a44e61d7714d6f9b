"""What is asked of each measurement, and whether it is reached."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from measurements import Measurement

MET, NOT_MET, REFUSED, NOT_MEASURED = "met", "not met", "refused", "not measured"


@dataclass(frozen=True)
class Target:
    """A bound on the ratio of a measurement, on a device, and perhaps on its share of the machine's rate.

    Attributes:
        row: name of the benchmark that measures it.
        what, peer_name: how the table calls it while nothing has been measured.
        needs: what a machine must have for it, "" for nothing.
    """

    row: str
    what: str
    peer_name: str
    device: str = "cpu"
    at_least: float | None = None
    at_most: float | None = None
    share: float | None = None
    unit: str = "x"
    needs: str = ""

    def __str__(self) -> str:
        if self.at_least is not None:
            text = f"≥ {self.at_least:g}x"
        elif self.unit == "%":
            text = f"≤ {self.at_most:.0%}"
        else:
            text = f"≤ {self.at_most:g}{self.unit}"
        return text if self.share is None else f"{text} and ≥ {self.share:.0%} of the rate"

    def reached(self, measurement: Measurement) -> bool:
        """A ratio that is not a number reaches nothing."""
        bounds = [
            self.at_least is None or measurement.ratio >= self.at_least,
            self.at_most is None or measurement.ratio <= self.at_most,
            self.share is None or (measurement.share is not None and measurement.share >= self.share),
        ]
        return all(bounds)


BFLOAT16, GPU, MAMBA = "AVX512-bf16 or AMX", "a GPU", "a GPU with mamba-ssm"
OOBLECK = "diffusers' AutoencoderOobleck"

TARGETS = {
    "codec float32": Target("decode", "decode and encode, float32", OOBLECK, at_least=2.5),
    "codec bfloat16": Target(
        "decode", "decode and encode, bfloat16", OOBLECK, at_least=4.0, share=0.4, needs=BFLOAT16
    ),
    "codec gpu": Target(
        "decode", "decode and encode, bfloat16", OOBLECK, device="cuda", at_least=2.0, needs=GPU
    ),
    "codec gpu compiled": Target(
        "decode",
        "decode and encode, bfloat16",
        f"{OOBLECK}, compiled",
        device="cuda",
        at_least=1.2,
        needs=GPU,
    ),
    "memory": Target("memory", "peak memory of encode and decode of 10 minutes", "30 s at once", at_most=1.3),
    "mamba share": Target("context", "bidirectional Mamba", "the whole encode", at_most=0.05, unit="%"),
    "mamba growth": Target(
        "context", "growth of Mamba's time with length", "linear", at_most=1.1, unit=" (exponent)"
    ),
    "mamba kernels": Target(
        "context",
        "Mamba by mamba-ssm's kernels",
        "plain recurrence",
        device="cuda",
        at_most=1e-3,
        unit=" (error)",
        needs=MAMBA,
    ),
    "prefix 64": Target(
        "sampling", "24 steps with guidance, 10 s, 64 text tokens", "in full each step", at_least=1.2
    ),
    "prefix 256": Target(
        "sampling", "24 steps with guidance, 10 s, 256 text tokens", "in full each step", at_least=1.9
    ),
    "batch": Target("batching", "8 prompts of different length at once", "one by one", at_least=1.3),
    "batch gpu": Target(
        "batching",
        "8 prompts of different length at once",
        "one by one",
        device="cuda",
        at_least=2.0,
        needs=GPU,
    ),
    "pipeline": Target(
        "pipeline",
        "whole pipeline, Qwen3-0.6B",
        "diffusers' StableAudioPipeline",
        device="cuda",
        at_least=1.5,
        needs=GPU,
    ),
    "cold start": Target(
        "cold_start", "star-hf generate, cold", "importing torch, transformers, diffusers", at_most=1.6
    ),
    "two processes": Target(
        "encode_dataset", "data set to latents, 2 processes", "one process", at_least=1.8
    ),
}


def verdict(measurement: Measurement) -> str:
    """ "met", "not met", or "" for a line without a target."""
    if measurement.target is None:
        return ""
    return MET if TARGETS[measurement.target].reached(measurement) else NOT_MET


def overall_verdict(name: str, measurements: Iterable[Measurement], missing: set[str], refused: bool) -> str:
    """Of a target over all lines that have it: met where every one of them is.

    Args:
        name: in `TARGETS`.
        measurements: of all benchmarks.
        missing: what the machine does not have of `BFLOAT16`, `GPU` and `MAMBA`.
        refused: whether the target's benchmark refused to measure, because outputs differed or it failed.
    """
    needs = TARGETS[name].needs
    verdicts = {verdict(measurement) for measurement in measurements if measurement.target == name}
    if verdicts:
        return NOT_MET if NOT_MET in verdicts else MET
    if needs in missing:
        return f"needs {needs}"
    return REFUSED if refused else NOT_MEASURED
