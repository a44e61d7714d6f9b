"""Training steps, ours against the same recipes in plain PyTorch on diffusers' AutoencoderOobleck.

python benchmarks/train_step.py --threads 2

Stable Audio Open's recipe: a step of the autoencoder (seven STFT resolutions, KL, adversarial and feature
matching loss) and one of the discriminator; and a step of STAR-Gen from audio: encode, flow matching. A
generator's crops are a few dozen frames, so its recipe takes more of them at a time. Both sides have the same
weights, crops and noise. Their losses and gradients are compared first, then they are timed in turn; the
table shows medians. Memory is the most that a step takes above the models themselves, measured in a process
of its own. The plain side does what stable-audio-tools does, `--careful` spares it the gradients that nobody
uses. `--size tiny` is for a look at the script itself.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from common import refuse_what_is_not_positive, relative_error, silence_advice
from machine import describe_machine
from measurements import Measurement, Report, faster, write_report
from processes import in_own_process, peak_memory
from timing import synchronize, time_in_turn
from training_sides import (
    DTYPES,
    HOP,
    SAMPLING_RATE,
    SIDES,
    SIZES,
    Batch,
    Setting,
    Side,
    make_batch,
    old_keys,
)

# Largest relative errors of ours against the plain side's in float64: of a loss, and of a whole gradient.
TOLERANCE = {"loss": 1e-6, "gradient": 1e-4}
# In float32 the slope 1 / |X| of the spectral loss, forty layers, and what real and generated audio cancel
# multiply rounding, up to percents. Ours may be off float64's values by this much, or by a multiple of what
# the plain side is off.
ROUNDING = {"loss": 1e-5, "gradient": 1e-3}
ROUNDING_OF_PLAIN = 4
CHECKED_CROP = 8192
BOTH = "autoencoder + discriminator"


@dataclass(frozen=True)
class Result:
    """Seconds (medians), audio seconds per second and peak bytes of a step, or of several together.

    `checkpointing` is that of neither side, of both, or of ours alone: diffusers' autoencoder has none.
    """

    steps: str
    batch: int
    checkpointing: str
    plain_seconds: float
    our_seconds: float
    plain_rate: float
    our_rate: float
    ratio: float
    plain_bytes: int | None
    our_bytes: int | None


def values(side: Side, step: str, batch: Batch) -> dict[str, torch.Tensor]:
    """The loss of a step, and its gradient by all parameters of the module of that name."""
    loss = side.loss(step, batch)
    loss.backward()
    gradients = old_keys({name: parameter.grad for name, parameter in side.modules[step].named_parameters()})
    gradient = torch.cat([gradients[name].flatten() for name in sorted(gradients)])
    for module in side.modules.values():
        module.zero_grad()
    return {"loss": loss.detach(), "gradient": gradient}


def compare(sides: dict[str, Side], batch: Batch) -> None:
    """Print the errors of our losses and gradients. Raises `ValueError` where they are too large."""

    def convert(dtype: torch.dtype) -> Batch:
        for side in sides.values():
            side.to(dtype)
        return batch.map(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)

    for step in sides["ours"].steps:
        doubled = convert(torch.float64)
        exact, ours = (values(sides[name], step, doubled) for name in ("plain", "ours"))
        found = {what: relative_error(ours[what], exact[what]) for what in exact}
        for what, error in found.items():
            if not error <= TOLERANCE[what]:
                raise ValueError(
                    f"the {step}'s {what} differs from the plain one's by {error:.1e} (relative, in "
                    f"float64), at most {TOLERANCE[what]:.0e} is allowed."
                )
        exact = {what: value.float() for what, value in exact.items()}
        del ours
        single = convert(torch.float32)
        rounding = {}
        for name, side in sides.items():
            rounded = values(side, step, single)
            rounding[name] = {what: relative_error(rounded[what], exact[what]) for what in exact}
        for what in exact:
            ours, plain = rounding["ours"][what], rounding["plain"][what]
            if not ours <= max(ROUNDING[what], ROUNDING_OF_PLAIN * plain):
                raise ValueError(
                    f"the {step}'s {what} is off by {ours:.1e} (relative) in float32, the plain one's by "
                    f"{plain:.1e}."
                )
            print(
                f"{step}'s {what}: ours differs by {found[what]:.1e} in float64; in float32 ours is off by "
                f"{ours:.1e}, the plain one by {plain:.1e}",
                flush=True,
            )


def train(side: Side, checkpointing: bool, step: str, batch: Batch) -> None:
    if side.has_checkpointing:
        side.set_checkpointing(checkpointing)
    side.train(step, batch)


Variant = tuple[str, bool]  # a side's name, and whether it uses gradient checkpointing


def variants(recipe: str) -> list[Variant]:
    return [
        (name, checkpointing)
        for checkpointing in (False, True)
        for name, side in SIDES[recipe].items()
        if side.has_checkpointing or not checkpointing
    ]


def measure_times(recipe: str, setting: Setting, repeats: int) -> dict[Variant, list[float]]:
    """Compare the sides of a recipe, and time their steps in turn: median seconds of each step."""
    sides = {name: side(replace(setting, precision="float32")) for name, side in SIDES[recipe].items()}
    compare(sides, make_batch(replace(setting, crop=min(setting.crop, CHECKED_CROP))))
    batch = make_batch(setting)
    for side in sides.values():
        side.setting = setting
    seconds: dict[Variant, list[float]] = {variant: [] for variant in variants(recipe)}
    for step in sides["ours"].steps:
        calls = [partial(train, sides[name], on, step, batch) for name, on in seconds]
        time_in_turn(calls[: len(sides)], 1, batch.waveform.device)  # the optimizers make their states
        for taken, median in zip(
            seconds.values(), time_in_turn(calls, repeats, batch.waveform.device), strict=True
        ):
            taken.append(median)
    return seconds


def measure(
    recipe: str, setting: Setting, repeats: int, peaks: dict[Variant, list[int]] | None
) -> list[Result]:
    """Results of each step, and of all of them together, without and with checkpointing."""
    seconds = measure_times(recipe, setting, repeats)
    steps = SIDES[recipe]["ours"].steps
    rows = [slice(index, index + 1) for index in range(len(steps))]
    if len(steps) > 1:
        rows.append(slice(None))
    results = []
    for checkpointing in (False, True):
        ours, peer, who = ("ours", checkpointing), ("plain", checkpointing), "both"
        if peer not in seconds:
            peer, who = ("plain", False), "ours alone"
        for row in rows:
            taken = {variant: sum(seconds[variant][row]) for variant in (peer, ours)}
            audio = setting.batch * setting.crop / SAMPLING_RATE * len(steps[row])
            results.append(
                Result(
                    steps=" + ".join(steps[row]),
                    batch=setting.batch,
                    checkpointing=who if checkpointing else "neither",
                    plain_seconds=taken[peer],
                    our_seconds=taken[ours],
                    plain_rate=audio / taken[peer],
                    our_rate=audio / taken[ours],
                    ratio=taken[peer] / taken[ours],
                    plain_bytes=max(peaks[peer][row]) if peaks else None,
                    our_bytes=max(peaks[ours][row]) if peaks else None,
                )
            )
    return results


def step_peaks(recipe: str, name: str, checkpointing: bool, setting: Setting) -> list[int]:
    """What each step takes at most above what the process takes before the first, in bytes."""
    device = torch.device(setting.device)
    side, batch = SIDES[recipe][name](setting), make_batch(setting)
    with peak_memory(device) as start:
        synchronize(device)
    peaks = []
    for step in side.steps:
        with peak_memory(device) as peak:
            train(side, checkpointing, step, batch)
            synchronize(device)
        peaks.append(peak[0] - start[0])
    return peaks


CHECKPOINTING = {
    "neither": "",
    "both": ", gradient checkpointing",
    "ours alone": ", gradient checkpointing of ours alone",
}


def measurements(results: list[Result], setting: Setting) -> list[Measurement]:
    """The lines of the one table: a recipe's whole round of steps, without and with checkpointing."""
    return [
        faster(
            f"training, {r.steps}, {r.batch} × {setting.crop} samples{CHECKPOINTING[r.checkpointing]}",
            "plain PyTorch, careful" if setting.careful else "plain PyTorch",
            r.our_seconds,
            r.plain_seconds,
            precision=setting.precision,
            device=setting.device,
            our_bytes=r.our_bytes,
            peer_bytes=r.plain_bytes,
        )
        for r in results
        if r.steps in (BOTH, "generator")
    ]


def table(results: list[Result]) -> str:
    def memory(value: int | None) -> str:
        return f"{'-':>9}" if value is None else f"{value / 2**30:8.2f}G"

    titles = ("seconds", "audio s/s", "memory")
    head = [
        f"{'':27} {'':5} {'':13} " + " ".join(f"{title:^20}" for title in titles),
        f"{'step':27} {'batch':>5} {'checkpointing':13} "
        + f"{'plain':>9} {'ours':>10} " * len(titles)
        + "  faster",
    ]
    rows = [
        f"{r.steps:27} {r.batch:5} {r.checkpointing:13} {r.plain_seconds:9.2f} {r.our_seconds:10.2f} "
        f"{r.plain_rate:9.3f} {r.our_rate:10.3f} {memory(r.plain_bytes)} {memory(r.our_bytes):>10} "
        f"{r.ratio:7.2f}x"
        for r in results
    ]
    return "\n".join([*head, *rows])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", choices=[*SIDES, "both"], default="both", help="what to train [both]")
    parser.add_argument("--size", choices=[*SIZES], default="full", help="of the models [full]")
    parser.add_argument("--batch", type=int, default=1, help="clips of the autoencoder's steps [1]")
    parser.add_argument("--generator-batch", type=int, default=8, help="clips of the generator's [8]")
    parser.add_argument("--crop", type=int, default=65536, help="samples per clip, whole frames [65536]")
    parser.add_argument("--precision", choices=[*DTYPES], default="float32", help="of autocast [float32]")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="[cpu]")
    parser.add_argument("--threads", type=int, help="PyTorch's threads [its own choice]")
    parser.add_argument("--repeats", type=int, default=3, help="timed steps of each [3]")
    parser.add_argument(
        "--careful",
        action="store_true",
        help="spare the plain autoencoder's side the gradients that stable-audio-tools computes in vain",
    )
    parser.add_argument("--no-memory", action="store_true", help="do not measure memory")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    arguments = parser.parse_args(argv)
    refuse_what_is_not_positive(parser, arguments, ("batch", "generator_batch", "crop", "repeats", "threads"))
    if arguments.crop % HOP:
        parser.error(f"--crop must be a multiple of {HOP}, got {arguments.crop}")
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)

    silence_advice()
    batches = {"autoencoder": arguments.batch, "generator": arguments.generator_batch}
    shared = {name: getattr(arguments, name) for name in ("size", "crop", "precision", "device", "careful")}
    settings = {
        recipe: Setting(batch=batches[recipe], **shared)
        for recipe in (SIDES if arguments.recipe == "both" else [arguments.recipe])
    }
    described = {
        "threads": torch.get_num_threads(),
        **shared,
        "repeats": arguments.repeats,
        "warm_up": "one step of each",
    }
    print(", ".join(f"{name} {value}" for name, value in described.items()), flush=True)
    results: dict[str, list[Result]] = {}
    try:
        # memory first: this process keeps what the timed steps took
        peaks = {
            recipe: {name: in_own_process(step_peaks, recipe, *name, setting) for name in variants(recipe)}
            for recipe, setting in settings.items()
            if not arguments.no_memory
        }
        for recipe, setting in settings.items():
            results[recipe] = measure(recipe, setting, arguments.repeats, peaks.get(recipe))
    except ValueError as error:
        sys.exit(f"error: {error}")
    every = [result for found in results.values() for result in found]
    print(table(every))
    if arguments.json is not None:
        lines = [line for recipe, found in results.items() for line in measurements(found, settings[recipe])]
        report = Report(setting=described, measurements=lines, results=every)
        write_report(arguments.json, report, machine=describe_machine())


if __name__ == "__main__":
    main()
