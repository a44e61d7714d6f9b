"""Decode and encode as Stable Audio Open does: AutoencoderStar against diffusers' AutoencoderOobleck.

python benchmarks/decode.py --seconds 5 --threads 2

Both have its configuration and the same random weights. Their outputs are compared first, then
they are timed in turn; the table shows medians. `--tiny` shrinks the model for a look at the script itself.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from common import (
    machine,
    refuse_what_is_not_positive,
    relative_error,
    silence_advice,
    time_in_turn,
    write_results,
)
from diffusers import AutoencoderOobleck

from star_hf.autoencoder import AutoencoderStar

TINY = {"encoder_hidden_size": 8, "decoder_channels": 8, "decoder_input_channels": 4}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
DIRECTIONS = ("decode", "encode")
# Largest relative error against diffusers in float32. In bf16 rounding alone costs diffusers about as much.
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}


@dataclass(frozen=True)
class Result:
    """Medians in seconds, how many times faster ours is, relative errors against diffusers in float32."""

    direction: str
    dtype: str
    diffusers_seconds: float
    ours_seconds: float
    ratio: float
    diffusers_error: float
    ours_error: float


def make_pair(tiny: bool, compiled: bool) -> tuple[AutoencoderOobleck, AutoencoderStar]:
    """diffusers' autoencoder with random weights and snakes, and ours with the same ones."""
    torch.manual_seed(0)
    peer = AutoencoderOobleck(**(TINY if tiny else {})).eval()
    with torch.no_grad():
        for name, parameter in peer.named_parameters():
            if name.endswith((".alpha", ".beta")):
                parameter.normal_(std=0.3)
    ours = AutoencoderStar.from_oobleck(peer, context_type="none").fold_weight_norm()
    if compiled:
        ours.encoder.compile()
        ours.decoder.compile()
    return peer, ours


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
    x = x.to(model.dtype)
    return model.decode(x).sample if direction == "decode" else model.encode(x).latent_dist.mean


@torch.inference_mode()
def compare(
    peer: AutoencoderOobleck, ours: AutoencoderStar, inputs: dict[str, torch.Tensor], repeats: int
) -> list[Result]:
    """Check that both give the same, and time them. Raises `ValueError` when they do not."""
    references = {direction: run(peer, direction, inputs[direction]) for direction in DIRECTIONS}
    results = []
    for name, dtype in DTYPES.items():
        peer.to(dtype)
        ours.to(dtype)
        for direction in DIRECTIONS:
            x, reference = inputs[direction], references[direction]
            # These first calls are the warm-up, too.
            peer_error, our_error = (relative_error(run(m, direction, x), reference) for m in (peer, ours))
            if not our_error <= TOLERANCE[name]:
                raise ValueError(
                    f"{direction} in {name} differs from diffusers by {our_error:.1e} (relative), "
                    f"at most {TOLERANCE[name]:.0e} is allowed."
                )
            peer_seconds, our_seconds = time_in_turn(
                [lambda d=direction, x=x: run(peer, d, x), lambda d=direction, x=x: run(ours, d, x)], repeats
            )
            ratio = peer_seconds / our_seconds
            results.append(Result(direction, name, peer_seconds, our_seconds, ratio, peer_error, our_error))
    return results


def table(results: list[Result]) -> str:
    head = f"{'':8} {'precision':10} {'diffusers':>10} {'ours':>10} {'faster':>8} {'error of ours':>14}"
    rows = [
        f"{r.direction:8} {r.dtype:10} {r.diffusers_seconds:9.3f}s {r.ours_seconds:9.3f}s "
        f"{r.ratio:7.2f}x {r.ours_error:14.1e}"
        for r in results
    ]
    return "\n".join([head, *rows])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="length of the audio [5]")
    parser.add_argument("--threads", type=int, help="PyTorch's threads [its own choice]")
    parser.add_argument("--repeats", type=int, default=5, help="timed calls of each [5]")
    parser.add_argument("--compile", action="store_true", help="compile ours with torch.compile")
    parser.add_argument("--tiny", action="store_true", help="a small model instead of the full one")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    arguments = parser.parse_args(argv)
    refuse_what_is_not_positive(parser, arguments, ("seconds", "repeats", "threads"))
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)

    silence_advice()
    peer, ours = make_pair(arguments.tiny, arguments.compile)
    parameters = sum(parameter.numel() for parameter in ours.parameters())
    setting = {
        "seconds": arguments.seconds,
        "parameters": parameters,
        "repeats": arguments.repeats,
        "compiled": arguments.compile,
        **machine(),
    }
    print(", ".join(f"{name} {value}" for name, value in setting.items()), flush=True)
    try:
        results = compare(peer, ours, make_inputs(ours, arguments.seconds), arguments.repeats)
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(table(results))
    write_results(arguments.json, setting, results)


if __name__ == "__main__":
    main()
