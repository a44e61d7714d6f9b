"""Decode and encode as Stable Audio Open does: AutoencoderStar against diffusers' AutoencoderOobleck.

python benchmarks/decode.py --seconds 5 --threads 2

Both have its configuration and the same random weights. Their outputs are compared with those of diffusers
in float32 on the CPU first, then they are timed in turn; the table shows medians. Peak memory is measured in
processes of their own. On a GPU both run in bf16, as they are and compiled: diffusers' encoder and decoder by
their `compile()`, ours by `vae.compile()`. `--tiny` shrinks the model for a look at the script itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from common import DTYPES, measure_rates, relative_error, require_agreement, run_benchmark
from diffusers import AutoencoderOobleck
from machine import has_fast_bfloat16
from measurements import Measurement, Report, faster
from models import make_oobleck
from processes import in_own_process, peak_above
from targets import OOBLECK
from timing import count_flops, time_in_turn

from star_hf.autoencoder import AutoencoderStar

DIRECTIONS = ("decode", "encode")
# Largest relative error against diffusers in float32. In bf16 rounding alone costs diffusers about as much.
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}
WARM_UP = {"cpu": 0, "cuda": 3}  # calls beside the ones that are compared


@dataclass(frozen=True)
class Case:
    """How both models run."""

    device: str
    precision: str
    compiled: bool = False

    @property
    def target(self) -> str:
        if self.device == "cpu":
            return f"codec {self.precision}"
        return "codec gpu compiled" if self.compiled else "codec gpu"

    @property
    def peer_name(self) -> str:
        return f"{OOBLECK}, compiled" if self.compiled else OOBLECK


CASES = {
    "cpu": (Case("cpu", "float32"), Case("cpu", "bfloat16")),
    "cuda": (Case("cuda", "bfloat16"), Case("cuda", "bfloat16", compiled=True)),
}


def make_pair(tiny: bool) -> tuple[AutoencoderOobleck, AutoencoderStar]:
    """diffusers' autoencoder with random weights and snakes, and ours with the same ones."""
    peer = make_oobleck(tiny)
    return peer, AutoencoderStar.from_oobleck(peer, context_type="none").fold_weight_norm()


def make_inputs(model: AutoencoderStar, seconds: float) -> dict[str, torch.Tensor]:
    """Latents and a waveform of `seconds`, a whole number of frames: diffusers drops what is left over."""
    frames = max(1, round(seconds * model.config.sampling_rate / model.hop_length))
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(1, model.config.decoder_input_channels, frames, generator=generator)
    samples = frames * model.hop_length
    waveform = 0.1 * torch.randn(1, model.config.audio_channels, samples, generator=generator)
    return {"decode": latents, "encode": waveform}


def run(model, direction: str, x: torch.Tensor) -> torch.Tensor:
    """Decode latents to a waveform, or encode a waveform to the posterior's mean."""
    x = x.to(model.device, model.dtype)
    return model.decode(x).sample if direction == "decode" else model.encode(x).latent_dist.mean


@torch.inference_mode()
def peaks(side: int, tiny: bool, seconds: float, device: str, precision: str) -> dict[str, int]:
    """Bytes above the weights that each direction takes: side 0 is diffusers, 1 is ours."""
    pair = make_pair(tiny)
    inputs = make_inputs(pair[1], seconds)
    model = pair[side].to(device, DTYPES[precision])
    del pair
    for direction in DIRECTIONS:  # kernels are chosen and made in the first calls
        run(model, direction, beginning(inputs, direction))
    return {
        direction: peak_above(lambda d=direction: run(model, d, inputs[d]), torch.device(device))[1]
        for direction in DIRECTIONS
    }


def beginning(inputs: dict[str, torch.Tensor], direction: str) -> torch.Tensor:
    """The first tenth of an input, whole frames."""
    frames = inputs["decode"].shape[-1]
    steps = inputs[direction].shape[-1] // frames
    return inputs[direction][..., : max(1, frames // 10) * steps]


@torch.inference_mode()
def compare(
    peer: AutoencoderOobleck,
    ours: AutoencoderStar,
    inputs: dict[str, torch.Tensor],
    repeats: int,
    cases: list[Case],
    report: Report | None = None,
    memory: Mapping[Case, list[dict[str, int]]] = MappingProxyType({}),
) -> list[Measurement]:
    """Check that both give the same, and time them. Raises `ValueError` when they do not.

    Args:
        report: with the rates of matrix products.
        memory: what `peaks` found of diffusers' and of ours.
    """
    report = report or Report()
    references, flops = {}, {}
    for direction in DIRECTIONS:
        references[direction], flops[direction] = count_flops(lambda d=direction: run(peer, d, inputs[d]))
    measurements = []
    for case in cases:
        for model in (peer, ours):
            model.to(case.device, DTYPES[case.precision])
        if case.compiled:
            peer.encoder.compile()
            peer.decoder.compile()
            ours.compile()
        for direction in DIRECTIONS:
            x, what = inputs[direction].to(case.device), f"{direction} in {case.precision}"
            # These first calls are the warm-up, too.
            error = relative_error(run(ours, direction, x), references[direction])
            require_agreement(what, error, TOLERANCE[case.precision], "diffusers")
            peer_error = relative_error(run(peer, direction, x), references[direction])
            require_agreement(f"diffusers' {what}", peer_error, TOLERANCE[case.precision], "its float32")
            calls = [lambda d=direction, x=x, m=model: run(m, d, x) for model in (peer, ours)]
            for call in calls * WARM_UP[case.device]:
                call()
            peer_seconds, seconds = time_in_turn(calls, repeats, torch.device(case.device))
            peer_peaks, our_peaks = memory.get(case, ({}, {}))
            measurements.append(
                faster(
                    f"{direction}, {case.precision}",
                    case.peer_name,
                    seconds,
                    peer_seconds,
                    precision=case.precision,
                    device=case.device,
                    target=case.target,
                    flops=flops[direction],
                    share=report.share(flops[direction], seconds, case.device, case.precision),
                    peer_bytes=peer_peaks.get(direction),
                    our_bytes=our_peaks.get(direction),
                    error=error,
                    tolerance=TOLERANCE[case.precision],
                )
            )
    return measurements


def measure(arguments: argparse.Namespace) -> Report:
    cases = [case for device in arguments.devices for case in CASES[device.type]]
    emulated = [case for case in cases if not arguments.tiny and is_emulated(case)]
    cases = [case for case in cases if case not in emulated]
    # Memory first: this process keeps what the timed calls took.
    memory = {
        case: [
            in_own_process(peaks, side, arguments.tiny, arguments.seconds, case.device, case.precision)
            for side in (0, 1)
        ]
        for case in cases
        if not case.compiled and not arguments.no_memory
    }
    report = Report(rates=measure_rates(arguments.devices, list(DTYPES), arguments.tiny))
    peer, ours = make_pair(arguments.tiny)
    report.setting = {
        "size": "tiny" if arguments.tiny else "Stable Audio Open",
        "parameters": sum(parameter.numel() for parameter in ours.parameters()),
        "seconds": arguments.seconds,
        "repeats": arguments.repeats,
        "warm_up": "the compared call; on a GPU three more",
    }
    inputs = make_inputs(ours, arguments.seconds)
    report.measurements = compare(peer, ours, inputs, arguments.repeats, cases, report, memory)
    if emulated:
        report.remarks.append("bf16 was left out on this CPU, which has no instructions for it.")
    return report


def is_emulated(case: Case) -> bool:
    return case.precision == "bfloat16" and not has_fast_bfloat16(torch.device(case.device))


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=5.0, help="length of the audio [5]")
    parser.add_argument("--repeats", type=int, default=5, help="timed calls of each [5]")
    parser.add_argument("--no-memory", action="store_true", help="do not measure memory")


def main(argv: list[str] | None = None) -> None:
    run_benchmark(__doc__, measure, add_options, argv, positive=("seconds", "repeats"))


if __name__ == "__main__":
    main()
