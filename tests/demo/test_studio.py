"""What the demo does, with tiny models."""

from __future__ import annotations

import os
import threading
from dataclasses import replace

import pytest
import torch

from star_hf import AudioError, read_audio
from star_hf.audio import write_audio
from star_hf.audit import as_codec
from star_hf.demo import GenerationRequest, Limits, Studio
from star_hf.demo.studio import METRICS, Clip, Step
from star_hf.evaluation import measure_pair, prepare_pair

REQUEST = GenerationRequest("a dog barking", "sea waves", seconds=0.5, steps=3, guidance=2.0, seed=7)


def _clips(studio, request):
    return [event for event in studio.generate(request) if isinstance(event, Clip)]


def test_every_step_is_told_and_then_the_clip(studio):
    *steps, clip = studio.generate(REQUEST)
    assert steps == [Step(number, 3) for number in range(4)]
    assert clip.seed == 7 and clip.seconds == 0.5


def test_the_clip_is_the_pipelines_and_so_are_its_files(studio):
    (clip,) = _clips(studio, REQUEST)
    expected = studio.pipeline(
        "a dog barking",
        "sea waves",
        audio_length_in_s=0.5,
        num_inference_steps=3,
        guidance_scale=2.0,
        generator=torch.Generator().manual_seed(7),
    ).audios[0]
    torch.testing.assert_close(clip.waveform, expected, rtol=0, atol=0)
    scale = expected.abs().max().clamp_min(1)
    for file in (clip.files.wav, clip.files.flac):
        samples, rate = read_audio(file)
        assert rate == 8000
        torch.testing.assert_close(samples, expected / scale, rtol=0, atol=1 / 32768)
    assert clip.files.wav.name == "a-dog-barking-7.wav"


def test_variations_are_those_of_the_following_seeds(studio):
    events = list(studio.generate(replace(REQUEST, variations=2)))
    assert [event.variation for event in events if isinstance(event, Step)] == [1] * 4 + [2] * 4
    first, second = (event for event in events if isinstance(event, Clip))
    (alone,) = _clips(studio, replace(REQUEST, seed=8))
    assert (first.seed, second.seed) == (7, 8)
    torch.testing.assert_close(second.waveform, alone.waveform, rtol=0, atol=0)
    assert not torch.equal(first.waveform, second.waveform)


def test_closing_stops_the_sampler_and_leaves_the_studio_usable(studio, monkeypatch):
    steps, predict = [], studio.pipeline.predict_velocity
    at_step_two, go_on = threading.Event(), threading.Event()

    def slow(*arguments):
        steps.append(1)
        if len(steps) == 2:
            at_step_two.set()
            assert go_on.wait(10)
        return predict(*arguments)

    monkeypatch.setattr(studio.pipeline, "predict_velocity", slow)
    events = studio.generate(GenerationRequest("sea waves", seconds=0.5, steps=200))
    assert [next(events).number for _ in range(2)] == [0, 1]
    assert at_step_two.wait(10)
    events.close()
    go_on.set()
    # The studio's lock: the next request begins after the stopped one has ended.
    (clip,) = _clips(studio, REQUEST)
    assert clip.seconds == 0.5
    assert len(steps) == 2 + REQUEST.steps


def test_one_job_at_a_time(studio, tone, monkeypatch):
    go_on, predict = threading.Event(), studio.pipeline.predict_velocity

    def slow(*arguments):
        assert go_on.wait(10)
        return predict(*arguments)

    monkeypatch.setattr(studio.pipeline, "predict_velocity", slow)
    events = studio.generate(REQUEST)
    next(events)
    results = []
    other = threading.Thread(target=lambda: results.append(studio.reconstruct(tone)))
    other.start()
    other.join(0.3)
    assert results == []
    go_on.set()
    list(events)
    other.join(10)
    assert len(results) == 1


def test_a_bad_request_is_refused_before_anything_runs(studio):
    with pytest.raises(ValueError, match="Seconds must be between 0.1 and 60, not 61"):
        studio.generate(GenerationRequest("rain", seconds=61))


def test_the_models_own_longest_clip_counts(make_studio):
    studio = make_studio(limits=Limits(max_seconds=30))
    assert studio.longest_generation == 30
    studio.pipeline.model.config.max_audio_length_in_s = 2.0
    assert studio.longest_generation == studio.default_seconds == 2


def test_an_autoencoder_alone_reconstructs_and_generates_nothing(tiny_autoencoder, tone, tmp_path):
    studio = Studio(tiny_autoencoder, folder=tmp_path, name="tiny")
    assert studio.reconstruct(tone).decoded.seconds == pytest.approx(1)
    with pytest.raises(ValueError, match="tiny is an autoencoder: it generates nothing"):
        studio.generate(REQUEST)


def test_a_reconstruction_is_the_decoded_mean_and_is_measured(studio, tone):
    result = studio.reconstruct(str(tone))
    original, _ = read_audio(tone, 8000, 2)
    codec = as_codec(studio.pipeline.vae)
    decoded = codec.decode(codec.encode(original[None]).mean)[0][:, : original.shape[1]]
    torch.testing.assert_close(result.original.waveform, original)
    torch.testing.assert_close(result.decoded.waveform, decoded)
    assert result.scores == measure_pair(prepare_pair(decoded, original, 8000, 8000), METRICS)
    assert result.rate_kbps > 0
    assert result.decoded.files.flac.name == "tone-reconstruction.flac"


def test_all_channels_are_the_reconstruction_and_fewer_have_the_priors_mean(studio, tone):
    clip = studio.latents(tone)
    whole = studio.decode_first_channels(clip, 4).waveform
    torch.testing.assert_close(whole, studio.reconstruct(tone).decoded.waveform)

    head = clip.latents.clone()
    head[:, 1:] = 0
    expected = studio.codec.decode(head)[0][:, : clip.num_samples]
    torch.testing.assert_close(studio.decode_first_channels(clip, 1).waveform, expected)
    assert not torch.allclose(expected, whole)
    assert len(clip.profile.values) == 4 and clip.profile.kind == "KL"


def test_without_a_prior_channels_are_left_at_their_mean(tone, tmp_path):
    from star_hf import AutoencoderStar

    torch.manual_seed(0)
    autoencoder = AutoencoderStar(
        encoder_hidden_size=4,
        downsampling_ratios=[2, 8],
        channel_multiples=[1, 2],
        decoder_channels=4,
        decoder_input_channels=4,
        sampling_rate=8000,
        context_type="none",
        bottleneck="soft_normalization",
    ).eval()
    studio = Studio(autoencoder, folder=tmp_path)
    clip = studio.latents(tone)
    head = clip.latents.clone()
    head[:, 2:] = head[:, 2:].mean(dim=-1, keepdim=True)
    expected = studio.codec.decode(head)[0][:, : clip.num_samples]
    torch.testing.assert_close(studio.decode_first_channels(clip, 2).waveform, expected)
    assert clip.profile.kind == "variance" and clip.profile.rate_kbps is None
    assert studio.reconstruct(tone).rate_kbps is None


@pytest.mark.parametrize("count", [0, 5, 1.5])
def test_a_wrong_number_of_channels(studio, tone, count):
    with pytest.raises(ValueError, match="Channels must be a whole number between 1 and 4"):
        studio.decode_first_channels(studio.latents(tone), count)


def test_bad_uploads_are_told_by_their_name_alone(studio, tmp_path):
    notes = tmp_path / "notes.wav"
    notes.write_text("These are notes.\n" * 40)
    tiny = write_audio(tmp_path / "tiny.wav", torch.ones(1, 10), 8000)
    for use in (studio.reconstruct, studio.latents):
        with pytest.raises(AudioError, match="^notes.wav: is not audio"):
            use(notes)
        with pytest.raises(AudioError, match="^tiny.wav is 0.001 s long; more than 0.002 s are needed"):
            use(tiny)
        with pytest.raises(AudioError, match="^There is no clip yet"):
            use(None)


def test_silence_is_reconstructed_and_what_has_no_value_is_left_out(studio, tmp_path):
    silence = write_audio(tmp_path / "silence.wav", torch.zeros(1, 8000), 8000)
    result = studio.reconstruct(silence)
    assert set(result.scores.values) | set(result.scores.refused) == set(METRICS)
    assert "si_sdr" in result.scores.refused


def test_the_oldest_files_make_room_and_the_newest_stay(make_studio):
    clip_bytes = 2 * 2 * 4000  # of half a second, as WAV
    studio = make_studio(limits=Limits(max_stored_megabytes=3.5 * clip_bytes / 2**20))
    clips = []
    for seed in range(4):
        (clip,) = _clips(studio, replace(REQUEST, seed=seed))
        clips.append(clip)
        for file in (clip.files.wav, clip.files.flac):
            os.utime(file, (seed, seed))
    files = [file for file in studio._files.folder.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 3.5 * clip_bytes
    assert clips[-1].files.wav in files and clips[-1].files.flac in files
    assert clips[0].files.wav not in files
