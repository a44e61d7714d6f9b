"""An `AutoencoderLafa` as the `vae` of StarGenPipeline and of diffusers' StableAudioPipeline."""

from __future__ import annotations

import json

import torch
from diffusers import (
    EDMDPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    StableAudioDiTModel,
    StableAudioPipeline,
    StableAudioProjectionModel,
)
from transformers import T5Config, T5EncoderModel

from star_hf import AutoencoderLafa, StarGenPipeline


def generate(pipeline, **arguments) -> torch.Tensor:
    return pipeline(
        "a dog barking", num_inference_steps=2, generator=torch.Generator().manual_seed(0), **arguments
    ).audios


def test_star_gen_decodes_through_the_flow(make_lafa, tiny_generator, tiny_tokenizer, tmp_path):
    pipeline = StarGenPipeline(
        vae=make_lafa(),
        model=tiny_generator,
        tokenizer=tiny_tokenizer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )
    pipeline.set_progress_bar_config(disable=True)
    audio = generate(pipeline, audio_length_in_s=100 / 8000)
    latents = generate(pipeline, audio_length_in_s=100 / 8000, output_type="latent")
    assert audio.shape == (1, 2, 100) and latents.shape == (1, 4, 7)
    with torch.no_grad():
        torch.testing.assert_close(pipeline.vae.decode(latents).sample[..., :100], audio)

    pipeline.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "model_index.json").read_text())["vae"] == ["star_hf", "AutoencoderLafa"]
    loaded = StarGenPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert isinstance(loaded.vae, AutoencoderLafa)
    torch.testing.assert_close(generate(loaded, audio_length_in_s=100 / 8000), audio)


def test_stable_audio_encodes_and_decodes(make_lafa, tiny_tokenizer):
    torch.manual_seed(3)
    tiny_tokenizer.model_max_length = 8
    text_config = T5Config(
        vocab_size=len(tiny_tokenizer), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2
    )
    pipeline = StableAudioPipeline(
        vae=make_lafa(),
        text_encoder=T5EncoderModel(text_config).eval(),
        projection_model=StableAudioProjectionModel(16, conditioning_dim=4, min_value=0, max_value=32),
        tokenizer=tiny_tokenizer,
        transformer=StableAudioDiTModel(
            sample_size=6,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            attention_head_dim=4,
            num_attention_heads=2,
            num_key_value_attention_heads=2,
            cross_attention_dim=4,
            cross_attention_input_dim=4,
            time_proj_dim=8,
            global_states_input_dim=8,
        ).eval(),
        scheduler=EDMDPMSolverMultistepScheduler(
            solver_order=2, prediction_type="v_prediction", sigma_data=1.0, sigma_schedule="exponential"
        ),
    )
    pipeline.set_progress_bar_config(disable=True)
    audio, latents = generate(pipeline), generate(pipeline, output_type="latent")
    assert audio.shape == (1, 2, 6 * 16) and audio.std() > 0
    with torch.no_grad():
        torch.testing.assert_close(pipeline.vae.decode(latents).sample, audio)
    pipeline.vae.enable_slicing()
    silence, sound = (
        generate(pipeline, initial_audio_waveforms=x, initial_audio_sampling_rate=8000)
        for x in (torch.zeros(1, 2, 30), torch.randn(1, 2, 30))
    )
    assert (silence - sound).abs().max() > 1e-4
