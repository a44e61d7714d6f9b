"""`star-hf generate`: prompts to audio files."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from star_hf.cli import options
from star_hf.cli.console import Reporter, Stopwatch
from star_hf.cli.models import load_pipeline
from star_hf.cli.outputs import plan_outputs, prepare_outputs
from star_hf.cli.runtime import choose_device, choose_dtype, fast_imports, keep_freed_memory
from star_hf.hub import EMBEDDED_NAME, resolve_model

MAX_SEED = 2**32


@dataclass(frozen=True)
class Clip:
    """One file to make; its seed alone makes it again."""

    prompt: str
    seed: int
    path: Path


def generate(
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...", help="What to hear, one clip each.")],
    output: options.Output = "out",
    seconds: Annotated[
        float | None,
        typer.Option(help="Duration.", callback=options.positive, show_default="the model's"),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Sampling steps.")] = 24,
    guidance: Annotated[
        float, typer.Option(help="Guidance scale; 1 is no guidance.", callback=options.finite)
    ] = 3.0,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=MAX_SEED - 1, help="Seed of the first clip; +1 each.", show_default="random"),
    ] = None,
    negative: Annotated[str | None, typer.Option(help="What not to hear.")] = None,
    variations: Annotated[int, typer.Option(min=1, help="Clips for each prompt.")] = 1,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Clips at once.", show_default="1 on CPU, 8 elsewhere")
    ] = None,
    model: options.Model = None,
    format: options.Format = None,
    device: options.Device = "auto",
    dtype: options.Dtype = None,
    as_json: options.Json = False,
) -> None:
    """Generate audio from text."""
    names = [f"{index:03d}" for index in range(len(prompts) * variations)]
    paths = plan_outputs(output, names, format)
    folder = resolve_model(model)
    first_seed = secrets.randbelow(MAX_SEED) if seed is None else seed
    clips = [
        Clip(prompts[index // variations], (first_seed + index) % MAX_SEED, path)
        for index, path in enumerate(paths)
    ]

    reporter, clock = Reporter(as_json), Stopwatch()
    with clock.phase("loading"):
        with fast_imports():
            prepare_outputs(output, paths)
            chosen_device = choose_device(device)
            chosen_dtype = choose_dtype(dtype, chosen_device)
            keep_freed_memory()
            with reporter.progress(f"loading {model or EMBEDDED_NAME}", 1):
                pipeline = load_pipeline(folder, chosen_device, chosen_dtype)
    arguments = {
        "audio_length_in_s": seconds,
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "negative_prompt": negative,
    }
    if batch_size is None:
        batch_size = 1 if chosen_device.type == "cpu" else 8

    files = []
    for start in range(0, len(clips), batch_size):
        batch = clips[start : start + batch_size]
        for clip, facts in zip(batch, _sample(pipeline, batch, arguments, reporter, clock), strict=True):
            files.append(facts)
            reporter.result(f"{clip.path}  {facts['seconds']:.2f} s  seed {clip.seed}  {clip.prompt}")
    reporter.note(str(clock))
    reporter.document({"model": model or EMBEDDED_NAME, "files": files, "time": clock.rounded()})


def _sample(
    pipeline: Any, batch: list[Clip], arguments: dict[str, Any], reporter: Reporter, clock: Stopwatch
) -> Iterator[dict[str, Any]]:
    """Generate and write a batch; yield what each file holds."""
    import torch

    from star_hf.audio import write_audio

    pipeline.set_progress_bar_config(disable=True)
    title = batch[0].prompt if len(batch) == 1 else f"{batch[0].prompt} and {len(batch) - 1} more"
    start = time.perf_counter()
    with reporter.progress(title, arguments["num_inference_steps"]) as advance:
        timer = _StepTimer(advance)
        audios = pipeline(
            prompt=[clip.prompt for clip in batch],
            generator=[torch.Generator("cpu").manual_seed(clip.seed) for clip in batch],
            callback_on_step_end=timer,
            output_type="pt",
            **arguments,
        ).audios
        audios = audios.float().cpu()
    clock.add("sampling", timer.last - start)
    clock.add("decoding", time.perf_counter() - timer.last)
    rate = pipeline.vae.config.sampling_rate
    for clip, audio in zip(batch, audios, strict=True):
        with clock.phase("writing"):
            write_audio(clip.path, audio, rate)
        yield {
            "path": str(clip.path),
            "prompt": clip.prompt,
            "seed": clip.seed,
            "seconds": audio.shape[-1] / rate,
            "sampling_rate": rate,
            "channels": audio.shape[0],
            "peak": round(float(audio.abs().max()), 4),
        }


class _StepTimer:
    """A pipeline's step callback that advances the progress bar and remembers when the last step ended."""

    def __init__(self, advance: Callable[[], None]):
        self._advance = advance
        self.last = time.perf_counter()

    def __call__(self, pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if tensors[
            "latents"
        ].is_cuda:  # kernels run behind the host: without waiting, decoding would seem slow
            import torch

            torch.cuda.synchronize()
        self.last = time.perf_counter()
        self._advance()
        return tensors
