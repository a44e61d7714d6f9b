"""StarGenPipeline: what it computes."""

import math

import numpy as np
import pytest
import torch
from diffusers.utils.torch_utils import randn_tensor

from star_hf.generation import StarGenPipeline
from star_hf.generation.modeling_star_gen import StarGenOutput

PROMPTS = ["a dog barking", "rain falling on a roof", "", "sea waves"]


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def record_calls(pipe, monkeypatch, velocity):
    """Replace the model by `velocity(latents, t)`; returns the list of times it is asked for."""
    times = []

    def forward(latents, timestep, prefix):
        times.append(timestep)
        return StarGenOutput(velocity=velocity(latents, timestep[:, None, None]))

    monkeypatch.setattr(pipe.model, "forward", forward)
    return times


@pytest.mark.parametrize("seconds", [0.5, 0.3333, 1 / 800, 0.01])
def test_output_is_as_long_as_asked(pipe, seconds):
    audio = pipe("sea waves", audio_length_in_s=seconds, num_inference_steps=1).audios
    assert audio.shape == (1, 2, round(seconds * 800)) and audio.dtype == torch.float32
    latents = pipe("sea waves", audio_length_in_s=seconds, num_inference_steps=1, output_type="latent").audios
    assert latents.shape == (1, 5, math.ceil(round(seconds * 800) / 8))


def test_default_length_is_the_configured_one(pipe):
    pipe.model.config.default_audio_length_in_s = 0.25
    assert pipe("sea waves", num_inference_steps=1).audios.shape == (1, 2, 200)


def test_times_go_from_noise_towards_data(pipe, monkeypatch):
    times = record_calls(pipe, monkeypatch, lambda z, t: torch.zeros_like(z))
    pipe("sea waves", audio_length_in_s=0.1, num_inference_steps=4, guidance_scale=1.0)
    torch.testing.assert_close(torch.cat(times), torch.tensor([0.0, 0.25, 0.5, 0.75]))


@pytest.mark.parametrize("steps", [1, 3, 24])
def test_constant_velocity_is_integrated_exactly(pipe, monkeypatch, steps):
    velocity = torch.randn(1, 10, 5)
    record_calls(pipe, monkeypatch, lambda z, t: velocity.expand_as(z))
    noise = torch.randn(2, 5, 10)
    latents = pipe(PROMPTS[:2], latents=noise, num_inference_steps=steps, output_type="latent").audios
    torch.testing.assert_close(latents, noise + velocity.transpose(1, 2))


def test_linear_velocity_follows_eulers_closed_form(pipe, monkeypatch):
    record_calls(pipe, monkeypatch, lambda z, t: 1.5 * z)
    noise = torch.randn(1, 5, 10)
    latents = pipe("sea waves", latents=noise, num_inference_steps=6, output_type="latent").audios
    torch.testing.assert_close(latents, noise * (1 + 1.5 / 6) ** 6)


def test_exact_velocity_of_a_gaussian_leads_to_that_gaussian(pipe, monkeypatch):
    """E[z_1 - z_0 | z_t] for data N(m, s²), whose flow carries each z_0 to m + s z_0."""
    mean, std = 2.0, 0.5

    def velocity(z, t):
        score = (z - t * mean) / ((1 - t) ** 2 + (t * std) ** 2)
        return mean + t * std**2 * score - (1 - t) * score

    record_calls(pipe, monkeypatch, velocity)
    noise = torch.randn(1, 5, 10)
    latents = pipe("sea waves", latents=noise, num_inference_steps=400, output_type="latent").audios
    torch.testing.assert_close(latents, mean + std * noise, atol=0.02, rtol=0)


@torch.no_grad()
def test_whole_loop_equals_plain_guidance_with_full_forward_passes(pipe, tiny_tokenizer):
    def velocity(z, step, text):
        ids = torch.tensor([tiny_tokenizer(text)["input_ids"]])
        return pipe.model(z, torch.tensor([step / 3]), ids).velocity

    noise = torch.randn(2, 5, 12)
    kwargs = {"negative_prompt": "sea", "num_inference_steps": 3, "guidance_scale": 2.5}
    latents = pipe(PROMPTS[:2], latents=noise, output_type="latent", **kwargs).audios
    for row, prompt in enumerate(PROMPTS[:2]):
        z = noise[row : row + 1].transpose(1, 2)
        for step in range(3):
            conditional, unconditional = velocity(z, step, prompt), velocity(z, step, "sea")
            z = z + (unconditional + 2.5 * (conditional - unconditional)) / 3
        torch.testing.assert_close(latents[row], z[0].T, atol=5e-5, rtol=1e-5)


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_seed_gives_the_same_audio_in_any_batch(pipe, guidance_scale):
    kwargs = {"audio_length_in_s": 0.2, "num_inference_steps": 3, "guidance_scale": guidance_scale}
    together = pipe(PROMPTS, generator=generators(0, 1, 2, 3), **kwargs).audios
    for row, prompt in enumerate(PROMPTS):
        alone = pipe(prompt, generator=generators(row), **kwargs).audios
        torch.testing.assert_close(together[row], alone[0], atol=1e-5, rtol=0)
    reordered = pipe(PROMPTS[::-1], generator=generators(3, 2, 1, 0), **kwargs).audios
    torch.testing.assert_close(reordered.flip(0), together, atol=1e-5, rtol=0)
    assert (together[0] - together[1]).abs().max() > 1e-2


def test_waveforms_per_prompt_are_neighbours(pipe):
    kwargs = {"audio_length_in_s": 0.2, "num_inference_steps": 2}
    audio = pipe(PROMPTS[:2], num_waveforms_per_prompt=2, generator=generators(0, 1, 2, 3), **kwargs).audios
    assert audio.shape == (4, 2, 160)
    second = pipe(PROMPTS[1], num_waveforms_per_prompt=2, generator=generators(2, 3), **kwargs).audios
    torch.testing.assert_close(audio[2:], second, atol=1e-5, rtol=0)


def test_latents_are_the_noise_of_the_generator(pipe):
    noise = randn_tensor((1, 5, 20), generator=generators(7)[0])
    kwargs = {"prompt": "sea waves", "audio_length_in_s": 0.2, "num_inference_steps": 2}
    given = pipe(latents=noise, **kwargs).audios
    assert torch.equal(given, pipe(generator=generators(7)[0], **kwargs).audios)
    assert torch.equal(pipe("sea waves", latents=noise, num_inference_steps=2).audios, given)


def test_negative_prompt_matters_with_guidance_only(pipe):
    def run(negative_prompt, guidance_scale):
        return pipe(
            PROMPTS[:2],
            negative_prompt,
            audio_length_in_s=0.2,
            num_inference_steps=2,
            guidance_scale=guidance_scale,
            generator=generators(0, 1),
        ).audios

    assert torch.equal(run(None, 3.0), run("", 3.0))
    assert torch.equal(run("sea waves", 3.0), run(["sea waves"] * 2, 3.0))
    assert (run("sea waves", 3.0) - run(None, 3.0)).abs().max() > 1e-3
    assert torch.equal(run("sea waves", 1.0), run(None, 1.0))


@pytest.mark.parametrize(("guidance_scale", "rows"), [(0.0, 2), (1.0, 2), (1.5, 4)])
def test_text_is_computed_once_and_guidance_doubles_the_batch(pipe, monkeypatch, guidance_scale, rows):
    times = record_calls(pipe, monkeypatch, lambda z, t: torch.zeros_like(z))
    texts, encode_text = [], pipe.model.encode_text
    monkeypatch.setattr(
        pipe.model, "encode_text", lambda ids, mask: texts.append(len(ids)) or encode_text(ids, mask)
    )
    pipe(PROMPTS[:2], audio_length_in_s=0.1, num_inference_steps=5, guidance_scale=guidance_scale)
    assert len(texts) == 1 and texts[0] == (3 if guidance_scale > 1 else 2)
    assert [len(t) for t in times] == [rows] * 5


def test_statistics_of_the_model_come_before_those_of_the_vae(pipe):
    kwargs = {"prompt": "sea waves", "latents": torch.randn(1, 5, 10), "num_inference_steps": 2}
    plain = pipe(output_type="latent", **kwargs).audios
    mean, std = torch.arange(5.0)[:, None], torch.linspace(0.5, 2, 5)[:, None]
    pipe.vae.register_to_config(latents_mean=mean.flatten().tolist(), latents_std=std.flatten().tolist())
    torch.testing.assert_close(pipe(output_type="latent", **kwargs).audios, plain * std + mean)
    pipe.model.config.latents_mean, pipe.model.config.latents_std = [0.0] * 5, [3.0] * 5
    torch.testing.assert_close(pipe(output_type="latent", **kwargs).audios, plain * 3)


def test_output_types(pipe):
    kwargs = {"prompt": "sea waves", "audio_length_in_s": 0.195, "num_inference_steps": 2}
    tensor = pipe(generator=generators(0), **kwargs).audios
    array = pipe(generator=generators(0), output_type="np", **kwargs).audios
    assert isinstance(array, np.ndarray) and np.array_equal(array, tensor.numpy())
    latents = pipe(generator=generators(0), output_type="latent", **kwargs).audios
    with torch.no_grad():
        torch.testing.assert_close(pipe.vae.decode(latents).sample[..., :156], tensor)
    assert torch.equal(pipe(generator=generators(0), return_dict=False, **kwargs)[0], tensor)


def test_callback_sees_and_replaces_latents(pipe):
    seen = []

    def callback(pipeline, step, timestep, tensors):
        assert pipeline is pipe and set(tensors) == {"latents"}
        seen.append((step, float(timestep)))
        return {"latents": torch.zeros_like(tensors["latents"])}

    kwargs = {"audio_length_in_s": 0.1, "num_inference_steps": 4, "output_type": "latent"}
    latents = pipe("sea waves", callback_on_step_end=callback, **kwargs).audios
    assert seen == [(0, 1000.0), (1, 750.0), (2, 500.0), (3, 250.0)] and pipe.num_timesteps == 4
    assert not latents.any()


def test_callback_may_interrupt(pipe, monkeypatch):
    times = record_calls(pipe, monkeypatch, lambda z, t: torch.zeros_like(z))

    def callback(pipeline, step, timestep, tensors):
        pipeline._interrupt = step == 1
        return tensors

    kwargs = {"audio_length_in_s": 0.1, "num_inference_steps": 6}
    pipe("sea waves", callback_on_step_end=callback, **kwargs)
    assert len(times) == 2 and pipe.interrupt
    pipe("sea waves", **kwargs)
    assert len(times) == 8 and not pipe.interrupt


def test_progress_bar_counts_the_steps(pipe, capfd):
    pipe.set_progress_bar_config(disable=False)
    pipe("sea waves", audio_length_in_s=0.1, num_inference_steps=3)
    assert "3/3" in capfd.readouterr().err


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_close_to_float32(pipe, dtype):
    kwargs = {"prompt": PROMPTS[:2], "latents": torch.randn(2, 5, 20), "num_inference_steps": 4}
    expected = pipe(**kwargs).audios
    audio = pipe.to(dtype)(**kwargs).audios
    assert audio.dtype == torch.float32
    assert (audio - expected).norm() / expected.norm() < 0.2


def test_vae_slicing_and_tiling_are_the_vaes(pipe):
    pipe.enable_vae_slicing()
    pipe.enable_vae_tiling()
    assert pipe.vae.use_slicing and pipe.vae.use_tiling
    pipe.disable_vae_slicing()
    pipe.disable_vae_tiling()
    assert not pipe.vae.use_slicing and not pipe.vae.use_tiling


def test_prompts_without_any_token(pipe):
    audio = pipe(["", ""], audio_length_in_s=0.1, num_inference_steps=2, generator=generators(0, 0)).audios
    assert audio.isfinite().all() and torch.equal(audio[0], audio[1])


def test_autoencoder_star_is_a_vae(tiny_pipeline_folder):
    pipe = StarGenPipeline.from_pretrained(tiny_pipeline_folder)
    pipe.set_progress_bar_config(disable=True)
    kwargs = {"prompt": PROMPTS[:2], "audio_length_in_s": 0.1003, "num_inference_steps": 2}
    audio = pipe(generator=generators(0, 1), **kwargs).audios
    assert audio.shape == (2, 2, 802) and audio.isfinite().all()
    pipe.enable_vae_slicing()
    torch.testing.assert_close(pipe(generator=generators(0, 1), **kwargs).audios, audio, atol=1e-5, rtol=0)


def test_latent_noise_of_the_vae_follows_the_generators(tiny_pipeline_folder):
    pipe = StarGenPipeline.from_pretrained(tiny_pipeline_folder)
    pipe.set_progress_bar_config(disable=True)
    kwargs = {"prompt": PROMPTS[:2], "audio_length_in_s": 0.1, "num_inference_steps": 2}
    still = pipe(generator=generators(0, 1), **kwargs).audios
    pipe.vae.register_to_config(latent_noise=0.1)
    noisy = pipe(generator=generators(0, 1), **kwargs).audios
    assert not torch.allclose(noisy, still)
    assert torch.equal(pipe(generator=generators(0, 1), **kwargs).audios, noisy)
    alone = pipe(generator=generators(1), **{**kwargs, "prompt": PROMPTS[1:2]}).audios
    torch.testing.assert_close(alone[0], noisy[1], atol=1e-5, rtol=0)
