"""The whole pipeline, text to audio, against diffusers' StableAudioPipeline, on a GPU in bf16.

python benchmarks/pipeline.py

STAR-Gen with Qwen3-0.6B and the full autoencoder with its Mamba stack, against Stable Audio Open's
transformer, T5 and autoencoder: each model's size as published, random weights, the same seconds of audio,
steps, guidance and number of clips. They are different models, so that their outputs can only agree in shape,
and in being finite, which is checked first. Stable Audio computes its full 47.6 s whatever length is asked
for; the target is about that length, where nothing is computed in vain.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from common import DTYPES, measure_rates, run_benchmark
from diffusers import EDMDPMSolverMultistepScheduler, StableAudioDiTModel, StableAudioPipeline
from diffusers.pipelines.stable_audio.modeling_stable_audio import StableAudioProjectionModel
from measurements import Measurement, Report, faster
from models import make_autoencoder, make_oobleck, make_pipeline, prompt_of, word_tokenizer
from processes import peak_above
from timing import count_flops, time_in_turn
from transformers import T5Config, T5EncoderModel

from star_hf import StarGenPipeline

GUIDANCE = 3.0
PROMPT_TOKENS = 16
WARM_UP = 2  # calls beside the one that is compared
# T5-base's encoder, as Stable Audio Open has it.
T5_BASE = {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12, "vocab_size": 32128}
TINY_T5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "vocab_size": 512}
TINY_DIT = {
    "sample_size": 20,
    "in_channels": 4,
    "out_channels": 4,
    "num_layers": 2,
    "attention_head_dim": 8,
    "num_attention_heads": 4,
    "num_key_value_attention_heads": 2,
    "cross_attention_dim": 16,
    "cross_attention_input_dim": 16,
    "global_states_input_dim": 32,
}


def make_stable_audio(tiny: bool, device: torch.device, dtype: torch.dtype) -> StableAudioPipeline:
    """diffusers' pipeline with the configuration of Stable Audio Open and random weights."""
    text_config = T5Config(**(TINY_T5 if tiny else T5_BASE))
    tokenizer = word_tokenizer()
    tokenizer.model_max_length = 128
    with torch.device(device):  # a billion random numbers are faster there
        torch.manual_seed(0)
        transformer = StableAudioDiTModel(**(TINY_DIT if tiny else {})).eval()
        text_encoder = T5EncoderModel(text_config).eval()
        projection = StableAudioProjectionModel(
            text_encoder_dim=text_config.d_model,
            conditioning_dim=text_config.d_model,
            min_value=0,
            max_value=512,
        )
    pipeline = StableAudioPipeline(
        vae=make_oobleck(tiny),
        text_encoder=text_encoder,
        projection_model=projection.eval(),
        tokenizer=tokenizer,
        transformer=transformer,
        scheduler=EDMDPMSolverMultistepScheduler(
            sigma_min=0.3, sigma_max=500, prediction_type="v_prediction", sigma_schedule="exponential"
        ),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device, dtype)


def make_ours(tiny: bool, device: torch.device, dtype: torch.dtype) -> StarGenPipeline:
    vae = make_autoencoder("tiny" if tiny else "full")
    return make_pipeline(tiny, device, dtype, vae)


Generate = Callable[[], torch.Tensor]


def calls(
    ours: StarGenPipeline, peer: StableAudioPipeline, seconds: float, arguments: argparse.Namespace
) -> tuple[Generate, Generate]:
    """One clip from each pipeline, diffusers' first."""
    prompt = prompt_of(PROMPT_TOKENS)
    shared = {"num_inference_steps": arguments.steps, "guidance_scale": GUIDANCE}

    def generator() -> torch.Generator:
        return torch.Generator("cpu").manual_seed(0)

    def peer_call() -> torch.Tensor:
        return peer(prompt, audio_end_in_s=seconds, generator=generator(), **shared).audios

    def our_call() -> torch.Tensor:
        return ours(prompt, audio_length_in_s=seconds, generator=generator(), **shared).audios

    return peer_call, our_call


def require_clips(clips: torch.Tensor, whose: str, channels: int, samples: int) -> None:
    """Raise `ValueError` for anything but one finite clip; diffusers rounds a length down to a sample."""
    if clips.shape[:2] != (1, channels) or abs(clips.shape[2] - samples) > 1:
        raise ValueError(
            f"{whose} clip is of shape {tuple(clips.shape)}, expected is (1, {channels}, {samples})."
        )
    if not clips.isfinite().all():
        raise ValueError(f"{whose} clip is not finite.")


def measure_length(
    ours: StarGenPipeline,
    peer: StableAudioPipeline,
    seconds: float,
    target: str | None,
    arguments: argparse.Namespace,
    report: Report,
) -> Measurement:
    device, precision = ours.device, arguments.precision
    channels, rate = ours.vae.config.audio_channels, ours.vae.config.sampling_rate
    functions = calls(ours, peer, seconds, arguments)
    peaks = []
    for function, whose in zip(functions, ("diffusers'", "our"), strict=True):
        clips, peak = peak_above(function, device)
        require_clips(clips, whose, channels, round(seconds * rate))
        peaks.append(peak)
    _, flops = count_flops(functions[1])
    for function in functions * WARM_UP:
        function()
    peer_seconds, our_seconds = time_in_turn(list(functions), arguments.repeats, device)
    return faster(
        f"whole pipeline, {seconds:.1f} s of audio, {arguments.steps} steps with guidance",
        "diffusers' StableAudioPipeline",
        our_seconds,
        peer_seconds,
        precision=precision,
        device=device.type,
        target=target,
        flops=flops,
        share=report.share(flops, our_seconds, device.type, precision),
        peer_bytes=peaks[0],
        our_bytes=peaks[1],
    )


def measure(arguments: argparse.Namespace) -> Report:
    devices = [device for device in arguments.devices if device.type == "cuda" or arguments.tiny]
    if not devices:
        raise ValueError("this benchmark needs a GPU; --tiny shows the script itself on a CPU.")
    report = Report(rates=measure_rates(devices, list(DTYPES), arguments.tiny))
    for device in devices:
        dtype = DTYPES[arguments.precision]
        ours, peer = (make(arguments.tiny, device, dtype) for make in (make_ours, make_stable_audio))
        longest = peer.transformer.config.sample_size * peer.vae.hop_length / peer.vae.config.sampling_rate
        lengths = {longest: "pipeline" if device.type == "cuda" else None}
        lengths.update({seconds: None for seconds in arguments.seconds if seconds < longest})
        report.measurements += [
            measure_length(ours, peer, seconds, target, arguments, report)
            for seconds, target in lengths.items()
        ]
    report.setting = {
        "our_parameters": count_parameters(ours),
        "peer_parameters": count_parameters(peer),
        "steps": arguments.steps,
        "repeats": arguments.repeats,
        "warm_up": f"the compared call, the counted one and {WARM_UP} more",
    }
    report.remarks.append(
        "StableAudioPipeline computes its longest clip whatever length is asked for, and cuts it."
    )
    return report


def count_parameters(pipeline) -> int:
    modules = (part for part in pipeline.components.values() if isinstance(part, torch.nn.Module))
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seconds", type=float, nargs="+", default=[10.0], help="beside Stable Audio's own length [10]"
    )
    parser.add_argument("--steps", type=int, default=24, help="of the sampling [24]")
    parser.add_argument("--precision", choices=[*DTYPES], default="bfloat16", help="[bfloat16]")
    parser.add_argument("--repeats", type=int, default=10, help="timed calls of each [10]")


def main(argv: list[str] | None = None) -> None:
    run_benchmark(__doc__, measure, add_options, argv, positive=("seconds", "steps", "repeats"))


if __name__ == "__main__":
    main()
