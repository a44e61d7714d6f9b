"""What the demo refuses, and the words that it has for it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import soundfile

from star_hf import AudioError
from star_hf.demo import GenerationRequest, Limits
from star_hf.demo.limits import check_upload, checked_request

LIMITS = Limits(max_seconds=60, max_megabytes=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": "  "}, "The prompt is empty"),
        ({"prompt": "x" * 1001}, "The prompt has 1001 characters; at most 1000"),
        ({"negative_prompt": "x" * 1001}, "The negative prompt has 1001 characters"),
        ({"seconds": 400}, "Seconds must be between 0.1 and 30, not 400"),
        ({"seconds": 0}, "Seconds must be between 0.1 and 30, not 0"),
        ({"seconds": math.nan}, "Seconds must be between 0.1 and 30, not nan"),
        ({"seconds": None}, "Seconds must be between 0.1 and 30, not empty"),
        ({"steps": 0}, "Steps must be between 1 and 200, not 0"),
        ({"steps": 2.5}, "Steps must be a whole number, not 2.5"),
        ({"guidance": math.inf}, "Guidance must be between 0 and 20, not inf"),
        ({"variations": 5}, "Variations must be between 1 and 4, not 5"),
        ({"seed": -1}, "Seed must be between 0 and 4294967295, not -1"),
        ({"seed": None}, "Seed must be between 0 and 4294967295, not empty"),
    ],
)
def test_requests_out_of_bounds_are_refused_in_words(change, message):
    with pytest.raises(ValueError, match=message):
        checked_request(GenerationRequest(**{"prompt": "rain", **change}), LIMITS, 30.0)


def test_a_form_gives_whole_numbers_as_floats():
    request = checked_request(GenerationRequest("rain", steps=3.0, seed=5.0, variations=2.0), LIMITS, 30.0)
    assert [type(value) for value in (request.steps, request.seed, request.variations)] == [int] * 3
    assert request.seeds() == [5, 6]


def test_seeds_start_again_after_the_last():
    assert GenerationRequest("rain", seed=2**32 - 1, variations=2).seeds() == [2**32 - 1, 0]


def test_limits_must_be_positive():
    with pytest.raises(ValueError, match="`max_megabytes` must be a finite number > 0, got 0"):
        Limits(max_megabytes=0)
    with pytest.raises(ValueError, match="`max_seconds` must be at least 0.1"):
        Limits(max_seconds=0.01)


def test_a_long_upload_names_its_length_and_the_limit(tmp_path):
    file = tmp_path / "lecture.flac"
    soundfile.write(file, np.zeros(3 * 3600 * 100, dtype="int16"), 100)
    assert file.stat().st_size < LIMITS.max_upload_bytes
    with pytest.raises(AudioError, match="lecture.flac is 3:00:00 h long; at most 60 s are allowed"):
        check_upload(file, LIMITS, 2)


def test_a_large_upload_names_its_size_and_the_limit(tmp_path):
    file = tmp_path / "loud.wav"
    soundfile.write(file, np.zeros((2**20, 1)), 44100, subtype="PCM_16")
    with pytest.raises(AudioError, match="loud.wav has 2.0 MB; at most 1 MB are allowed"):
        check_upload(file, LIMITS, 2)


def test_an_upload_is_mono_stereo_or_what_the_autoencoder_takes(tmp_path):
    file = tmp_path / "surround.wav"
    soundfile.write(file, np.zeros((800, 6)), 8000)
    check_upload(file, LIMITS, 6)
    with pytest.raises(AudioError, match="surround.wav has 6 channels; it must be mono or stereo"):
        check_upload(file, LIMITS, 2)
