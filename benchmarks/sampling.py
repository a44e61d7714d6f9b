"""Sampling with the text's keys and values computed once, against the model run in full in every step.

python benchmarks/sampling.py --threads 2

Qwen3-0.6B's configuration with random weights, one prompt and the empty one of the guidance, 215 frames
(10 s). The plain side is a loop that puts text and audio through the same layers together, under one mask, in
each step. First both take two steps from the same noise, and what they moved must agree; then they are timed
in turn. On a CPU a few steps are timed and count for 24, since all do the same work; on a GPU all 24 are. The
arithmetic allows (tokens + frames) / frames: 1.30 for 64 tokens, 2.19 for 256.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import plain
import torch
from common import DTYPES, measure_rates, relative_error, require_agreement, run_benchmark
from measurements import Measurement, Report, faster
from models import TINY_NAME, make_pipeline, prompt_of
from processes import peak_above
from sampling_steps import sampling_in_turn, timed_steps_of
from timing import count_flops

from star_hf import StarGenPipeline
from star_hf.flow import classifier_free_guidance
from star_hf.generation.text import tokenize_prompts

GUIDANCE = 3.0
COMPARED_STEPS = 2
# Relative, of what two steps moved, against the plain loop in float32.
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}
PRECISION = {"cpu": "float32", "cuda": "bfloat16"}


#: Noise, number of steps, and perhaps what to call at the end of each, to latents.
Sampler = Callable[..., torch.Tensor]


class PlainSampler:
    """Euler steps with guidance in which text and audio go through the whole model together."""

    def __init__(self, pipeline: StarGenPipeline, prompt: str) -> None:
        model = pipeline.model
        self.model = plain.Generator(model.audio_embedding, model.backbone, model.flow_head)
        ids, mask = tokenize_prompts(pipeline.tokenizer, ["", prompt], model.config.max_text_tokens)
        self.texts = ids.to(pipeline.device), mask.to(pipeline.device)

    @torch.no_grad()
    def __call__(
        self, noise: torch.Tensor, steps: int, on_step_end: Callable[[], None] = lambda: None
    ) -> torch.Tensor:
        """Latents `(1, channels, frames)` after the steps."""
        latents = noise.transpose(1, 2)
        audio_mask = torch.ones(2, latents.shape[1], dtype=torch.bool, device=latents.device)
        dtype = self.model.flow_head.weight.dtype
        for step in range(steps):
            times = torch.full((2,), step / steps, device=latents.device)
            both = latents.expand(2, -1, -1).to(dtype)
            velocity = self.model(both, times, *self.texts, audio_mask).float()
            latents = latents + classifier_free_guidance(*velocity.chunk(2), GUIDANCE) / steps
            on_step_end()
        return latents.transpose(1, 2)


def our_sampler(pipeline: StarGenPipeline, prompt: str) -> Sampler:
    """The same with the pipeline as it is."""

    def sample(
        noise: torch.Tensor, steps: int, on_step_end: Callable[[], None] = lambda: None
    ) -> torch.Tensor:
        return pipeline(
            prompt,
            num_inference_steps=steps,
            guidance_scale=GUIDANCE,
            latents=noise,
            output_type="latent",
            callback_on_step_end=lambda *_: on_step_end(),
        ).audios

    return sample


def measure_length(
    pipeline: StarGenPipeline, tokens: int, arguments: argparse.Namespace, report: Report
) -> Measurement:
    """Of one length of the prompt. Raises `ValueError` where the velocities differ."""
    device, prompt = pipeline.device, prompt_of(tokens)
    precision = PRECISION[device.type]
    pipeline.to(torch.float32)
    noise = torch.randn(
        1,
        pipeline.model.config.latent_channels,
        arguments.frames,
        generator=torch.Generator().manual_seed(tokens),
    ).to(device)
    samplers = [PlainSampler(pipeline, prompt), our_sampler(pipeline, prompt)]
    moved, peaks = move(samplers, noise)
    reference, what = moved[0], f"what {COMPARED_STEPS} steps after {tokens} tokens move"
    error = relative_error(moved[1], reference)
    require_agreement(f"{what} in float32", error, TOLERANCE["float32"], "the plain loop")
    if precision != "float32":
        pipeline.to(DTYPES[precision])
        moved, peaks = move(samplers, noise)
        plain_error, error = (relative_error(latents, reference) for latents in moved)
        for found, whose in ((plain_error, "plain"), (error, "ours")):
            require_agreement(f"{what} in {precision}, {whose},", found, TOLERANCE[precision], "float32")

    timed = timed_steps_of(arguments.timed_steps, arguments.steps, device, on_cpu=6)
    sides = [[lambda steps, clock, sampler=sampler: sampler(noise, steps, clock)] for sampler in samplers]
    peer_seconds, seconds = sampling_in_turn(sides, timed, arguments.steps, arguments.repeats, device)
    flops = count_sampling_flops(pipeline, prompt, samplers[1], noise, arguments.steps)
    return faster(
        f"{arguments.steps} steps with guidance, {arguments.frames} frames, {tokens} text tokens",
        "in full each step",
        seconds,
        peer_seconds,
        precision=precision,
        device=device.type,
        target=f"prefix {tokens}" if f"prefix {tokens}" in ("prefix 64", "prefix 256") else None,
        flops=flops,
        share=report.share(flops, seconds, device.type, precision),
        peer_bytes=peaks[0],
        our_bytes=peaks[1],
        error=error,
        tolerance=TOLERANCE[precision],
    )


def move(samplers: list[Sampler], noise: torch.Tensor) -> tuple[list[torch.Tensor], list[int]]:
    """What the compared steps of each sampler add to the noise, and the memory that they take."""
    found = [peak_above(partial(sampler, noise, COMPARED_STEPS), noise.device) for sampler in samplers]
    return [latents - noise for latents, _ in found], [peak for _, peak in found]


def count_sampling_flops(
    pipeline: StarGenPipeline, prompt: str, sampler: Sampler, noise: torch.Tensor, steps: int
) -> int:
    """Operations of the whole sampling: the text once, and one step so many times."""
    with torch.no_grad():
        _, text = count_flops(lambda: pipeline.encode_prompt(prompt, device=noise.device))
    _, with_one_step = count_flops(lambda: sampler(noise, 1))
    return text + steps * (with_one_step - text)


def measure(arguments: argparse.Namespace) -> Report:
    report = Report(rates=measure_rates(arguments.devices, list(DTYPES), arguments.tiny))
    for device in arguments.devices:
        pipeline = make_pipeline(arguments.tiny, device, torch.float32)
        report.measurements += [
            measure_length(pipeline, tokens, arguments, report) for tokens in arguments.tokens
        ]
    report.setting = {
        "size": TINY_NAME if arguments.tiny else "Qwen3-0.6B",
        "parameters": sum(parameter.numel() for parameter in pipeline.model.parameters()),
        "steps": arguments.steps,
        "timed_steps": arguments.timed_steps or "6 on a CPU, all on a GPU",
        "repeats": arguments.repeats,
        "warm_up": f"{COMPARED_STEPS} compared steps",
    }
    return report


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tokens", type=int, nargs="+", default=[64, 256], help="of the prompt [64 256]")
    parser.add_argument("--frames", type=int, default=215, help="of the audio [215]")
    parser.add_argument("--steps", type=int, default=24, help="of the sampling [24]")
    parser.add_argument("--timed-steps", type=int, help="that are run [6 on a CPU, all on a GPU]")
    parser.add_argument("--repeats", type=int, default=1, help="timed runs of each [1]")


def main(argv: list[str] | None = None) -> None:
    run_benchmark(
        __doc__, measure, add_options, argv, positive=("tokens", "frames", "steps", "timed_steps", "repeats")
    )


if __name__ == "__main__":
    main()
