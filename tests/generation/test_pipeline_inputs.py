"""StarGenPipeline refuses wrong arguments before any model runs."""

import pytest
import torch

NOISE = torch.zeros(1, 5, 10)
GENERATOR = torch.Generator()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"prompt": None}, TypeError, "`prompt`.*None"),
        ({"prompt": 3}, TypeError, "`prompt`.*3.*int"),
        ({"prompt": ["a", 3]}, TypeError, "`prompt`"),
        ({"prompt": []}, ValueError, "`prompt`.*at least one"),
        ({"negative_prompt": ["a", "b"]}, ValueError, "`negative_prompt`.*1.*2"),
        ({"negative_prompt": 3}, TypeError, "`negative_prompt`"),
        ({"audio_length_in_s": 0}, ValueError, "`audio_length_in_s`.*positive.*0"),
        ({"audio_length_in_s": -1.5}, ValueError, "`audio_length_in_s`.*positive.*-1.5"),
        ({"audio_length_in_s": float("nan")}, ValueError, "`audio_length_in_s`.*finite.*nan"),
        ({"audio_length_in_s": float("inf")}, ValueError, "`audio_length_in_s`.*finite.*inf"),
        ({"audio_length_in_s": 1e-6}, ValueError, "`audio_length_in_s`.*one sample"),
        ({"audio_length_in_s": 61}, ValueError, "`audio_length_in_s`.*60.*61.*max_audio_length_in_s"),
        ({"audio_length_in_s": "5"}, TypeError, "`audio_length_in_s`.*'5'.*str"),
        ({"audio_length_in_s": True}, TypeError, "`audio_length_in_s`"),
        ({"num_inference_steps": 0}, ValueError, "`num_inference_steps`.*at least 1.*0"),
        ({"num_inference_steps": 2.5}, TypeError, "`num_inference_steps`.*2.5"),
        ({"guidance_scale": float("nan")}, ValueError, "`guidance_scale`.*finite.*nan"),
        ({"guidance_scale": None}, TypeError, "`guidance_scale`"),
        ({"num_waveforms_per_prompt": 0}, ValueError, "`num_waveforms_per_prompt`.*at least 1"),
        ({"generator": 0}, TypeError, "`generator`"),
        ({"generator": [GENERATOR] * 3}, ValueError, "`generator`.*1.*3"),
        ({"generator": [GENERATOR], "num_waveforms_per_prompt": 2}, ValueError, "`generator`.*2.*1"),
        ({"latents": [0.0]}, TypeError, "`latents`.*list"),
        ({"latents": NOISE.long()}, TypeError, "`latents`.*floating"),
        ({"latents": NOISE[:, :4]}, ValueError, r"`latents`.*\(1, 5, frames\).*\(1, 4, 10\)"),
        ({"latents": NOISE.expand(2, 5, 10)}, ValueError, r"`latents`.*\(2, 5, 10\)"),
        ({"latents": NOISE[0]}, ValueError, r"`latents`.*\(5, 10\)"),
        ({"latents": NOISE, "audio_length_in_s": 0.2}, ValueError, "`latents`.*20 frames.*0.2.*10"),
        ({"latents": NOISE / 0}, ValueError, "`latents`.*finite"),
        ({"latents": NOISE.repeat(1, 1, 700)}, ValueError, "`audio_length_in_s`.*60.*70"),
        ({"output_type": "mp3"}, ValueError, "`output_type`.*pt, np, latent.*mp3"),
        ({"callback_on_step_end": 3}, TypeError, "`callback_on_step_end`"),
        ({"callback_on_step_end_tensor_inputs": ["noise"]}, ValueError, "tensor_inputs`.*latents.*noise"),
    ],
)
def test_wrong_arguments_are_named_before_anything_runs(pipe, monkeypatch, arguments, error, message):
    ran = []
    for target, method in ((pipe.model, "encode_text"), (pipe.model, "forward"), (pipe.vae, "decode")):
        monkeypatch.setattr(target, method, lambda *_, **__: ran.append(1))
    with pytest.raises(error, match=message):
        pipe(**{"prompt": "sea waves", **arguments})
    assert not ran


def test_the_cap_can_be_raised(pipe):
    pipe.model.config.max_audio_length_in_s = 0.1
    with pytest.raises(ValueError, match="at most 0.1 s"):
        pipe("sea waves", audio_length_in_s=0.2)
    pipe.model.config.max_audio_length_in_s = 0.2
    assert pipe("sea waves", audio_length_in_s=0.2, num_inference_steps=1).audios.shape[-1] == 160


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latent_channels": 6}, "`vae` has 5 latent channels, `model` has 6"),
        ({"sampling_rate": 44100}, "`vae` works at 800 Hz, `model` at 44100 Hz"),
        ({"frame_rate": 21.5}, "`vae` has 100.00 frames per second, `model` has 21.50"),
    ],
)
def test_vae_that_does_not_fit_the_model(pipe, changes, message):
    for name, value in changes.items():
        setattr(pipe.model.config, name, value)
    with pytest.raises(ValueError, match=message):
        pipe("sea waves")


def test_vae_whose_layout_is_unknown(pipe):
    pipe.register_modules(vae=torch.nn.Linear(1, 1))
    pipe.vae.config = {}
    with pytest.raises(ValueError, match="`vae` of class Linear has none of: decoder_input_channels"):
        pipe("sea waves")
