"""What a run would be, without running it: parameters, memory, one batch of data, the schedule."""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from accelerate.state import AcceleratorState
from accelerate.utils import convert_outputs_to_fp32, send_to_device
from torch import nn

from engine.memory import Activations, measure_activations
from engine.run_log import clock
from engine.run_setup import TrainingArguments
from engine.task import Task

Say = Callable[[str], None]
CAPTIONS, CAPTION_LENGTH = 3, 60
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def describe(arguments: TrainingArguments, task: Task, say: Say) -> None:
    """Tell what `task` would train, how much memory a step takes, what the data look like, and how long.

    Reads one batch and makes forward passes on two and three of its samples; writes no files. An accelerate
    `Accelerator` must exist: its device and precision are used.
    """
    asked = time.monotonic()
    batch = next(iter(task.batches(0, 0, 1, None)))
    waited = time.monotonic() - asked
    failures = batch.pop("failures", [])
    batch.pop("position", None)

    for line in _parameters(task):
        say(line)
    say("")
    activations, audio_seconds = _measure(arguments, task, batch)
    for line in _memory(task, activations, len(_first(batch))):
        say(line)
    say("")
    say(f"data: one batch, read in {waited:.1f} s")
    for line in _data(task, batch, failures):
        say(line)
    say("")
    for line in _schedule(arguments, task, len(_first(batch)), audio_seconds):
        say(line)


def _parameters(task: Task) -> Iterator[str]:
    yield f"{'parameters':<40} {'trained':>10} {'frozen':>10} {'bytes':>12}"
    for name, module in [*task.modules.items(), *_helpers(task).items()]:
        yield _parameter_line(name, list(module.parameters()))
        path, inner = _unwrap(module)
        for child_name, child in _children_with_parameters(inner):
            yield _parameter_line(f"  {path}{child_name}", list(child.parameters()))


def _helpers(task: Task) -> dict[str, nn.Module]:
    """Further modules that a task holds as attributes, such as a frozen autoencoder."""
    known = {id(parameter) for module in task.modules.values() for parameter in module.parameters()}
    return {
        name: value
        for name, value in vars(task).items()
        if isinstance(value, nn.Module)
        and any(id(parameter) not in known for parameter in value.parameters())
    }


def _unwrap(module: nn.Module) -> tuple[str, nn.Module]:
    """Step into a module that only wraps another one."""
    path = ""
    while len(children := _children_with_parameters(module)) == 1 and not list(
        module.parameters(recurse=False)
    ):
        name, module = children[0]
        path += f"{name}."
    return path, module


def _children_with_parameters(module: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(name, child) for name, child in module.named_children() if any(True for _ in child.parameters())]


def _parameter_line(name: str, parameters: list[nn.Parameter]) -> str:
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    frozen = sum(parameter.numel() for parameter in parameters if not parameter.requires_grad)
    return f"{name:<40} {_count(trained):>10} {_count(frozen):>10} {_size(_bytes(parameters)):>12}"


def _measure(
    arguments: TrainingArguments, task: Task, batch: dict[str, Any]
) -> tuple[dict[str, Activations], float]:
    """Activations by the module that a step trains, and the seconds of audio in the batch."""
    state = AcceleratorState()
    batch_size = len(_first(batch))
    seconds = 0.0
    for module in task.modules.values():
        module.to(state.device)
        if state.mixed_precision in AUTOCAST:  # as accelerate wraps it
            autocast = torch.autocast(state.device.type, AUTOCAST[state.mixed_precision])
            module.forward = convert_outputs_to_fp32(autocast(module.forward))

    def forward(step: int, size: int) -> Any:
        nonlocal seconds
        part = send_to_device(_cut(batch, size), state.device)
        output = task.compute(task.modules, part, step)
        seconds = output.audio_seconds * batch_size / size
        return output.losses

    # late in the run, when every loss has been switched on
    last = (arguments.max_steps or 10**9) - 1
    steps = {task.player(step): step for step in (max(0, last - 1), last)}
    modules = [*task.modules.values(), *_helpers(task).values()]
    activations = {
        name: measure_activations(lambda size, step=step: forward(step, size), batch_size, modules)
        for name, step in steps.items()
    }
    return activations, seconds


def _memory(task: Task, activations: dict[str, Activations], batch_size: int) -> Iterator[str]:
    state = AcceleratorState()
    precision = f", {state.mixed_precision} autocast" if state.mixed_precision in AUTOCAST else ""
    yield f"estimated memory of a {state.device.type} that takes {batch_size} samples a batch{precision}"
    for name, estimate in estimates(task, activations).items():
        activation = activations[name]
        per_sample = (activation.kept - activation.fixed) / batch_size
        yield f"  a step of {name}"
        for part, size in estimate.items():
            yield f"    {part:<36} {_size(size):>12}"
        together, total = "together, without workspaces", sum(estimate.values())
        yield f"    {together:<36} {_size(total):>12}, {_size(per_sample)} of it for each sample"


def estimates(task: Task, activations: dict[str, Activations]) -> dict[str, dict[str, int]]:
    """Bytes by what they are for, by the module that a step trains."""
    trained = {
        name: [parameter for parameter in module.parameters() if parameter.requires_grad]
        for name, module in task.modules.items()
    }
    modules = [*task.modules.values(), *_helpers(task).values()]
    everything = {id(parameter): parameter for module in modules for parameter in module.parameters()}
    averaged = sum(parameter.numel() for parameter in next(iter(trained.values())))
    return {
        name: {
            "weights": _bytes(everything.values()),
            "AdamW's two moments": 2 * sum(_bytes(parameters) for parameters in trained.values()),
            "moving average of the weights": 4 * averaged,
            "gradients of the weights": _bytes(trained[name]),
            "activations": activation.kept,
            # where the backward pass begins, those of one operation's output and input
            "gradients of activations": 2 * activation.largest,
        }
        for name, activation in activations.items()
    }


def _data(task: Task, batch: dict[str, Any], failures: list[Any]) -> Iterator[str]:
    for name, value in batch.items():
        if isinstance(value, torch.Tensor):
            kind = f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
            yield f"  {name:<16} {kind:<28} {_levels(name, value, batch)}".rstrip()
        else:
            yield f"  {name:<16} {len(value)} × {type(value[0]).__name__}"
    for caption in _captions(task, batch):
        yield f"    {caption!r}"
    yield f"  unreadable files: {len(failures)}"
    for name, reason, *_ in failures:
        yield f"    {name}: {reason}"


def _levels(name: str, value: torch.Tensor, batch: dict[str, Any]) -> str:
    if not value.is_floating_point():
        return ""
    if name != "waveform":
        return f"mean {value.mean():.3g}, std {value.std():.3g}"
    lengths = batch.get("num_samples", torch.full((len(value),), value.shape[-1]))
    clips = [waveform[..., :length].double() for waveform, length in zip(value, lengths, strict=True)]
    peaks = [_decibels(clip.abs().max()) for clip in clips]
    levels = [_decibels(clip.square().mean().sqrt()) for clip in clips]
    return f"peaks {_span(peaks)} dBFS, RMS {_span(levels)} dBFS"


def _captions(task: Task, batch: dict[str, Any]) -> list[str]:
    tokenizer = getattr(task, "tokenizer", None)
    captions = batch.get("text", [])
    if not captions and tokenizer is not None and "input_ids" in batch:
        captions = tokenizer.batch_decode(batch["input_ids"][:CAPTIONS], skip_special_tokens=True)
    return [caption[:CAPTION_LENGTH] for caption in captions[:CAPTIONS]]


def _schedule(
    arguments: TrainingArguments, task: Task, batch_size: int, audio_seconds: float
) -> Iterator[str]:
    processes = AcceleratorState().num_processes
    batches = arguments.gradient_accumulation * processes
    samples = batch_size * batches
    yield (
        f"schedule: a step takes {samples} samples, {_number(audio_seconds * batches)} s of audio: "
        f"{batch_size} a batch × {arguments.gradient_accumulation} accumulated × {processes} processes"
    )
    if arguments.max_steps is not None:
        total = task.bad_files.total
        clips = sum(total.values()) if isinstance(total, dict) else total
        seconds = arguments.max_steps * audio_seconds * batches
        epochs = (
            f", {_number(arguments.max_steps * samples / clips)} epochs of {clips:,} clips" if clips else ""
        )
        yield f"  {arguments.max_steps:,} steps, {_duration(seconds)} of audio{epochs}"
    if arguments.max_minutes is not None:
        yield f"  at most {clock(60 * arguments.max_minutes)}"


def _first(batch: dict[str, Any]) -> Any:
    return next(iter(batch.values()))


def _cut(batch: dict[str, Any], size: int) -> dict[str, Any]:
    return {
        # a copy, for a view would keep the whole
        name: value[:size].clone() if isinstance(value, torch.Tensor) else value[:size]
        for name, value in batch.items()
    }


def _bytes(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _size(number: float) -> str:
    unit = min(3, int(math.log(max(number, 1), 1024)))
    return f"{number / 1024**unit:.1f} {('B', 'KiB', 'MiB', 'GiB')[unit]}"


def _count(number: int) -> str:
    return f"{number / 1e6:.2f}M" if number >= 1e5 else f"{number:,}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _duration(seconds: float) -> str:
    return clock(seconds) if seconds < 360_000 else f"{seconds / 3600:,.0f} h"


def _decibels(amplitude: torch.Tensor) -> float:
    return 20 * math.log10(amplitude) if amplitude > 0 else -math.inf


def _span(values: list[float]) -> str:
    low, high = min(values), max(values)
    return f"{high:.1f}" if high - low < 0.05 or math.isinf(high) else f"{low:.1f} to {high:.1f}"
