"""diffusers' `StableAudioPipeline` with an `AutoencoderStar` as its `vae`."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers import (
    EDMDPMSolverMultistepScheduler,
    StableAudioDiTModel,
    StableAudioPipeline,
    StableAudioProjectionModel,
)
from transformers import T5Config, T5EncoderModel

FRAMES = 6


@pytest.fixture(params=["none", "mamba"])
def pipeline(request, make_small, tiny_tokenizer) -> StableAudioPipeline:
    torch.manual_seed(3)
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.model_max_length = 8
    text_config = T5Config(
        vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.0
    )
    text_encoder = T5EncoderModel(text_config)
    transformer = StableAudioDiTModel(
        sample_size=FRAMES,
        in_channels=3,
        out_channels=3,
        num_layers=1,
        attention_head_dim=4,
        num_attention_heads=2,
        num_key_value_attention_heads=2,
        cross_attention_dim=4,
        cross_attention_input_dim=4,
        time_proj_dim=8,
        global_states_input_dim=8,
    )
    pipeline = StableAudioPipeline(
        vae=make_small(request.param),
        text_encoder=text_encoder.eval(),
        projection_model=StableAudioProjectionModel(16, conditioning_dim=4, min_value=0, max_value=32),
        tokenizer=tokenizer,
        transformer=transformer.eval(),
        scheduler=EDMDPMSolverMultistepScheduler(
            solver_order=2, prediction_type="v_prediction", sigma_data=1.0, sigma_schedule="exponential"
        ),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def generate(pipeline: StableAudioPipeline, **arguments) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return pipeline("a dog barking", num_inference_steps=2, generator=generator, **arguments).audios


def test_the_pipeline_gives_the_decoded_latents(pipeline):
    audio = generate(pipeline)
    assert audio.shape == (1, 2, FRAMES * pipeline.vae.hop_length)
    assert torch.isfinite(audio).all() and audio.std() > 0
    latents = generate(pipeline, output_type="latent")
    with torch.no_grad():
        torch.testing.assert_close(pipeline.vae.decode(latents).sample, audio)


def test_several_waveforms_of_a_part_of_the_length(pipeline):
    audio = generate(pipeline, num_waveforms_per_prompt=2, audio_end_in_s=40 / 8000, output_type="np")
    assert audio.shape == (2, 2, 40)
    assert (audio[0] != audio[1]).any()


def test_initial_audio_is_encoded(pipeline):
    silence, sound = torch.zeros(1, 2, 30), torch.randn(1, 2, 30)
    from_silence, from_sound = (
        generate(pipeline, initial_audio_waveforms=audio, initial_audio_sampling_rate=8000)
        for audio in (silence, sound)
    )
    assert from_sound.shape == (1, 2, FRAMES * pipeline.vae.hop_length)
    assert (from_silence - from_sound).abs().max() > 1e-4


def test_slicing_and_tiling_leave_the_audio_unchanged(pipeline):
    expected = generate(pipeline, num_waveforms_per_prompt=2)
    pipeline.vae.enable_slicing()
    pipeline.vae.enable_tiling()
    pipeline.vae.tile_frames = 2
    torch.testing.assert_close(generate(pipeline, num_waveforms_per_prompt=2), expected, rtol=1e-4, atol=1e-5)
