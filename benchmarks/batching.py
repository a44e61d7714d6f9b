"""Eight prompts of different length at once against one by one.

python benchmarks/batching.py --threads 2

The embedded checkpoint from text to audio, and Qwen3-0.6B's configuration with random weights from text to
latents. Each clip has a generator of its own, so that it is the same either way, which is checked first, in
float32. Then both ways are timed in turn. Of the large model on a CPU, few steps are timed and count for 24.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import torch
from common import DTYPES, measure_rates, relative_error, require_agreement, run_benchmark
from measurements import Measurement, Report, faster
from models import EMBEDDED_NAME, TINY_NAME, embedded_pipeline, make_pipeline, prompt_of
from processes import peak_above
from sampling_steps import sampling_in_turn, timed_steps_of
from timing import count_flops

from star_hf import StarGenPipeline

CAPTIONS = [
    "rain",
    "a dog barking",
    "sea waves crashing",
    "a rooster crowing in the morning",
    "a clock ticking in a quiet room",
    "a helicopter flying past at some distance",
    "a baby crying, and somebody sneezing in the same room",
    "a fire crackling while a chainsaw is at work far away in the forest",
]
TOKENS = (8, 16, 24, 32, 40, 48, 56, 64)
TOLERANCE = 1e-3  # relative, of the clips in float32
PRECISION = {"cpu": "float32", "cuda": "bfloat16"}
TARGET = {"cpu": "batch", "cuda": "batch gpu"}


@dataclass(frozen=True)
class Case:
    """What is generated: texts to audio ("pt") or to latents ("latent").

    So many steps of it are compared and timed.
    """

    name: str
    pipeline: StarGenPipeline
    prompts: list[str]
    output_type: str
    timed_steps: int

    def generate(
        self, indices: range, seconds: float, steps: int, on_step_end: Callable[[], None] = lambda: None
    ) -> torch.Tensor:
        """Clips of these prompts in one batch, each from its own seed."""
        return self.pipeline(
            [self.prompts[index] for index in indices],
            audio_length_in_s=seconds,
            num_inference_steps=steps,
            generator=[torch.Generator("cpu").manual_seed(index) for index in indices],
            output_type=self.output_type,
            callback_on_step_end=lambda *_: on_step_end(),
        ).audios


def measure_case(case: Case, arguments: argparse.Namespace, report: Report) -> Measurement:
    """Raises `ValueError` where a clip depends on what else is in the batch."""
    pipeline, device, seconds = case.pipeline, case.pipeline.device, arguments.seconds
    precision = PRECISION[device.type]
    everything = range(len(case.prompts))
    batches = [[range(index, index + 1) for index in everything], [everything]]

    def generate(side: int) -> torch.Tensor:
        return torch.cat([case.generate(indices, seconds, case.timed_steps) for indices in batches[side]])

    expected, peer_peak = peak_above(lambda: generate(0), device)
    (found, flops), peak = peak_above(lambda: count_flops(lambda: generate(1)), device)
    error = relative_error(found, expected)
    require_agreement(
        f"a batch of {len(everything)}, {case.name},", error, TOLERANCE, "one by one in float32"
    )
    if case.timed_steps < arguments.steps:
        _, with_one_step = count_flops(lambda: case.generate(everything, seconds, 1))
        step = (flops - with_one_step) / (case.timed_steps - 1)
        flops = with_one_step + (arguments.steps - 1) * step
    if precision != "float32":
        pipeline.to(DTYPES[precision])
        peer_peak, peak = (peak_above(lambda side=side: generate(side), device)[1] for side in (0, 1))
    sides = [
        [lambda steps, clock, own=own: case.generate(own, seconds, steps, clock) for own in side]
        for side in batches
    ]
    peer_taken, taken = sampling_in_turn(sides, case.timed_steps, arguments.steps, arguments.repeats, device)
    return faster(
        f"{len(everything)} prompts of different length at once, {seconds:g} s, {case.name}",
        "one by one",
        taken,
        peer_taken,
        precision=precision,
        device=device.type,
        target=TARGET[device.type],
        flops=flops,
        share=report.share(flops, taken, device.type, precision),
        peer_bytes=peer_peak,
        our_bytes=peak,
        error=error,
        tolerance=TOLERANCE,
    )


def make_case(size: str, device: torch.device, arguments: argparse.Namespace) -> Case:
    if size == "embedded":
        pipeline = embedded_pipeline(device, torch.float32)
        return Case(f"{EMBEDDED_NAME}, text to audio", pipeline, CAPTIONS, "pt", arguments.steps)
    pipeline = make_pipeline(arguments.tiny, device, torch.float32)
    prompts = [prompt_of(tokens, first=7 * tokens) for tokens in TOKENS]
    name = TINY_NAME if arguments.tiny else "Qwen3-0.6B, text to latents"
    timed_steps = timed_steps_of(arguments.timed_steps, arguments.steps, device, on_cpu=2)
    return Case(name, pipeline, prompts, "latent", timed_steps)


def measure(arguments: argparse.Namespace) -> Report:
    report = Report(rates=measure_rates(arguments.devices, list(DTYPES), arguments.tiny))
    for device in arguments.devices:
        for size in arguments.sizes:
            report.measurements.append(measure_case(make_case(size, device, arguments), arguments, report))
    report.setting = {
        "seconds": arguments.seconds,
        "steps": arguments.steps,
        "timed_steps": f"all; of Qwen3-0.6B {arguments.timed_steps or '2 on a CPU, all on a GPU'}",
        "repeats": arguments.repeats,
        "warm_up": "the compared clips",
    }
    return report


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sizes", nargs="+", choices=["embedded", "full"], default=["embedded", "full"], help="[both]"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a clip [5]")
    parser.add_argument("--steps", type=int, default=24, help="of the sampling [24]")
    parser.add_argument(
        "--timed-steps", type=int, help="of the large model that are run [2 on a CPU, all on a GPU]"
    )
    parser.add_argument("--repeats", type=int, default=1, help="timed runs of each [1]")


def main(argv: list[str] | None = None) -> None:
    run_benchmark(
        __doc__, measure, add_options, argv, positive=("seconds", "steps", "timed_steps", "repeats")
    )


if __name__ == "__main__":
    main()
