"""What each option that a user turns on does: time, memory, and what it costs in quality.

python benchmarks/options.py --threads 2

Each option is measured in a process of its own, beside the same pipeline (or autoencoder) without it: same
seed, calls in turn. Options that only compute the same otherwise must give the same audio; for the others the
spectral distance between both clips says what they change, and the distance between two seeds how much that
is. What the first call takes longer, such as compiling, is in a column of its own.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from common import DTYPES, relative_error, require_agreement, run_benchmark
from machine import has_fast_bfloat16
from measurements import Report
from models import EMBEDDED_NAME, FULL_NAME, TINY_NAME, make_autoencoder, make_pipeline
from processes import in_own_process, peak_above
from timing import time_in_turn

from star_hf import StarGenPipeline, embedded_checkpoint
from star_hf.cli.runtime import keep_freed_memory
from star_hf.evaluation import stft_distance

PROMPT = "a dog barking"
TOLERANCE = 1e-3  # relative, of options that change nothing but the way
TILE_SECONDS = 5.0
LONG_SECONDS, SECONDS = 30.0, 5.0
CLIPS = 4
PRECISION = {"cpu": "float32", "cuda": "bfloat16"}


@dataclass(frozen=True)
class Option:
    """A line of the table.

    Attributes:
        how: what a user writes.
        apply: does it to a pipeline or an autoencoder.
        subjects: what it is measured on: "pipeline", "autoencoder".
        exact: whether the audio may not change.
        seconds, clips: what is generated at once.
        needs: a package.
        once: whether it cannot be turned off again, so that the calls without it come before those with it.
    """

    how: str
    apply: Callable[[Any], object]
    subjects: tuple[str, ...] = ("pipeline",)
    exact: bool = True
    seconds: float = SECONDS
    clips: int = 1
    needs: str = ""
    once: bool = False


@dataclass(frozen=True)
class OptionResult:
    """Medians in seconds, peak bytes above the weights; `reason` says why there are none."""

    option: str
    how: str
    subject: str
    device: str
    precision: str
    reason: str | None = None
    default_seconds: float | None = None
    seconds: float | None = None
    ratio: float | None = None
    default_bytes: int | None = None
    bytes: int | None = None
    first_call_seconds: float | None = None
    error: float | None = None
    spectral_distance: float | None = None


def autoencoder_of(subject: Any) -> Any:
    return getattr(subject, "vae", subject)


def tile(subject: Any) -> None:
    vae = autoencoder_of(subject)
    vae.tile_frames = max(1, round(TILE_SECONDS * vae.frame_rate))
    vae.enable_tiling()


def quantize(subject: StarGenPipeline) -> None:
    quantization = import_module("torchao.quantization")
    quantization.quantize_(subject.model.backbone, quantization.Int8WeightOnlyConfig())


OPTIONS = {
    "bfloat16": Option(
        "pipe.to(torch.bfloat16)",
        lambda subject: subject.to(torch.bfloat16),
        ("pipeline", "autoencoder"),
        exact=False,
    ),
    "weight norm folded": Option(
        "pipe.vae.fold_weight_norm()", lambda subject: autoencoder_of(subject).fold_weight_norm()
    ),
    "autoencoder compiled": Option(
        "pipe.vae.compile()", lambda subject: autoencoder_of(subject).compile(), ("pipeline", "autoencoder")
    ),
    "model compiled": Option("pipe.model.compile()", lambda subject: subject.model.compile()),
    f"tiles of {TILE_SECONDS:g} s": Option("pipe.enable_vae_tiling()", tile, seconds=LONG_SECONDS),
    "slicing": Option("pipe.enable_vae_slicing()", lambda pipe: pipe.enable_vae_slicing(), clips=CLIPS),
    "8-bit weights": Option(
        "torchao.quantization.quantize_(pipe.model.backbone, Int8WeightOnlyConfig())",
        quantize,
        exact=False,
        needs="torchao",
    ),
    "freed memory kept": Option(
        "what the command line does",
        lambda subject: keep_freed_memory(),
        ("pipeline", "autoencoder"),
        once=True,
    ),
}


def make_subject(kind: str, device: torch.device, dtype: torch.dtype, tiny: bool) -> Any:
    """As a user has it: a pipeline as it is loaded, an autoencoder of full size with its weights folded."""
    if kind == "autoencoder":
        return make_autoencoder("tiny" if tiny else "full").to(device, dtype)
    if tiny:
        return make_pipeline(True, device, dtype)
    pipeline = StarGenPipeline.from_pretrained(embedded_checkpoint(), dtype=dtype)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def generate(subject: Any, option: Option, steps: int, seed: int = 0) -> torch.Tensor:
    """Audio in float32 on the CPU: of a pipeline from a prompt, of an autoencoder from random latents."""
    if isinstance(subject, StarGenPipeline):
        audio = subject(
            [PROMPT] * option.clips,
            audio_length_in_s=option.seconds,
            num_inference_steps=steps,
            generator=[torch.Generator("cpu").manual_seed(seed + index) for index in range(option.clips)],
        ).audios
    else:
        shape = (1, subject.config.decoder_input_channels, round(option.seconds * subject.frame_rate))
        latents = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        audio = subject.decode(latents.to(subject.device, subject.dtype)).sample
    return audio.float().cpu()


@torch.inference_mode()
def measure_option(name: str, kind: str, device: str, tiny: bool, steps: int, repeats: int) -> OptionResult:
    """Raises `ValueError` where an option that may not change the audio does."""
    option, precision = OPTIONS[name], PRECISION[device]
    place = torch.device(device)
    facts = {
        "option": name,
        "how": option.how if kind == "pipeline" else vae_code(option.how),
        "subject": subject_name(kind, option, tiny),
        "device": device,
        "precision": precision,
    }
    if option.needs and find_spec(option.needs) is None:
        return OptionResult(**facts, reason=f"{option.needs} is not installed")
    default = make_subject(kind, place, DTYPES[precision], tiny)
    changed = default if option.once else make_subject(kind, place, DTYPES[precision], tiny)

    def call(subject: Any) -> Callable[[], torch.Tensor]:
        return lambda: generate(subject, option, steps)

    call(default)()  # what the first call of a process makes, kernels for instance, is no option's
    expected, default_bytes = peak_above(call(default), place)
    without = None
    if option.once:
        (without,) = time_in_turn([call(default)], repeats, place)
    try:
        option.apply(changed)
        started = time.perf_counter()
        call(changed)()
        first_call = time.perf_counter() - started
        found, own_bytes = peak_above(call(changed), place)
    except Exception as error:  # an option that fails is a result of its own
        return OptionResult(**facts, reason=f"fails: {type(error).__name__}: {str(error).splitlines()[0]}")
    error = relative_error(found, expected)
    if option.exact and precision == "float32":
        require_agreement(f"the audio with {name}", error, TOLERANCE, "that without")
    if not found.isfinite().all():
        raise ValueError(f"the audio with {name} is not finite.")
    if without is None:
        without, taken = time_in_turn([call(default), call(changed)], repeats, place)
    else:
        (taken,) = time_in_turn([call(changed)], repeats, place)
    return OptionResult(
        **facts,
        default_seconds=without,
        seconds=taken,
        ratio=without / taken,
        default_bytes=default_bytes,
        bytes=own_bytes,
        first_call_seconds=first_call,
        error=error,
        spectral_distance=stft_distance(found, expected).item(),
    )


@torch.inference_mode()
def distance_of_seeds(device: str, tiny: bool, steps: int) -> float:
    """Spectral distance between two clips of the same prompt: what is a large one."""
    subject = make_subject("pipeline", torch.device(device), DTYPES[PRECISION[device]], tiny)
    first, second = (generate(subject, OPTIONS["bfloat16"], steps, seed) for seed in (0, 1))
    return stft_distance(second, first).item()


def vae_code(how: str) -> str:
    """The same for an autoencoder by itself."""
    return how.replace("pipe.vae", "vae").replace("pipe", "vae")


def subject_name(kind: str, option: Option, tiny: bool) -> str:
    """What is measured: which model, how much audio."""
    model = TINY_NAME if tiny else EMBEDDED_NAME if kind == "pipeline" else FULL_NAME
    task = "text to audio" if kind == "pipeline" else "decode"
    clips = f"{option.clips} × " if option.clips > 1 else ""
    return f"{task}, {clips}{option.seconds:g} s, {model}"


def measure(arguments: argparse.Namespace) -> Report:
    report = Report()
    for device in arguments.devices:
        for name in arguments.options:
            if name == "bfloat16" and device.type == "cuda":
                continue  # there it is the default
            for kind in OPTIONS[name].subjects:
                if name == "bfloat16" and not arguments.tiny and not has_fast_bfloat16(device):
                    continue
                report.options.append(
                    in_own_process(
                        measure_option,
                        name,
                        kind,
                        device.type,
                        arguments.tiny,
                        arguments.steps,
                        arguments.repeats,
                    )
                )
                print(option_line(report.options[-1]), flush=True)
        distance = in_own_process(distance_of_seeds, device.type, arguments.tiny, arguments.steps)
        report.remarks.append(
            f"Two seeds of one prompt are at a spectral distance of {distance:.2f} ({device.type})."
        )
    report.setting = {
        "steps": arguments.steps,
        "repeats": arguments.repeats,
        "warm_up": "two calls of each",
    }
    return report


def option_line(result: OptionResult) -> str:
    if result.reason is not None:
        return f"{result.option}, {result.subject}: {result.reason}"
    return (
        f"{result.option}, {result.subject}: {result.default_seconds:.3f} s → {result.seconds:.3f} s "
        f"({result.ratio:.2f}x), spectral distance {result.spectral_distance:.3f}"
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--options", nargs="+", choices=[*OPTIONS], default=[*OPTIONS], help="[all]")
    parser.add_argument("--steps", type=int, default=24, help="of the sampling [24]")
    parser.add_argument("--repeats", type=int, default=3, help="timed calls of each [3]")


def main(argv: list[str] | None = None) -> None:
    run_benchmark(__doc__, measure, add_options, argv, positive=("steps", "repeats"))


if __name__ == "__main__":
    main()
