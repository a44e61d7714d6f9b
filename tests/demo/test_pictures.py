"""The pictures of the page say what they were made from."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch

from star_hf.demo.files import AudioFiles
from star_hf.demo.pictures import loudest_power, profile_bars, spectrogram
from star_hf.demo.studio import ChannelProfile, Clip

RATE = 16000


def _clip(waveform, name="clip"):
    return Clip(name, waveform, RATE, AudioFiles(Path("clip.wav"), Path("clip.flac")))


def _tone(frequency, level=0.5):
    return level * torch.sin(2 * torch.pi * frequency * torch.arange(RATE) / RATE)[None]


def _brightness(html):
    """(bands, columns), top row the highest frequency."""
    data = re.search(r'src="data:image/png;base64,([^"]+)"', html)[1]
    return matplotlib.image.imread(io.BytesIO(base64.b64decode(data)))[..., :3].sum(axis=-1)


def test_a_higher_tone_stands_higher():
    low, high = (
        _brightness(spectrogram(_clip(_tone(frequency)))).mean(axis=1).argmax() for frequency in (300, 3000)
    )
    assert high < low


def test_a_tick_stands_beside_the_tone_of_its_frequency():
    html = spectrogram(_clip(_tone(3000)))
    image = _brightness(html)
    from_bottom = 1 - (image.mean(axis=1).argmax() + 0.5) / len(image)
    tick = float(re.search(r'bottom:([\d.]+)%">3<', html)[1]) / 100
    assert from_bottom == pytest.approx(tick, abs=2 / len(image))


def test_silence_is_dark_and_a_quieter_clip_is_darker_beside_a_loud_one():
    assert np.ptp(_brightness(spectrogram(_clip(torch.zeros(1, RATE))))) == 0
    loud, quiet = _clip(_tone(1000)), _clip(_tone(1000, 0.005))
    alone = _brightness(spectrogram(quiet))
    beside = _brightness(spectrogram(quiet, [loudest_power(loud)]))
    np.testing.assert_allclose(alone, _brightness(spectrogram(loud)), atol=0.05)
    assert beside.max() < alone.max() - 0.5


def test_a_long_clip_has_no_more_columns_than_a_screen_shows():
    assert _brightness(spectrogram(_clip(_tone(1000).repeat(1, 45)))).shape[1] == 1200


def test_names_are_escaped():
    html = spectrogram(_clip(_tone(1000), '"><script>alert(1)</script>'))
    assert "<script>" not in html and "&lt;script&gt;" in html


@pytest.mark.parametrize("kept", [1, 5, 8])
def test_bars_are_the_profile_and_those_left_out_are_marked(kept):
    values = (4.0, 3.0, 2.0, 2.0, 1.0, 0.5, 0.25, 0.0)
    html = profile_bars(ChannelProfile("KL", values, 1.0), kept)
    bars = re.findall(r'<rect [^>]*height="([\d.]+)"([^>]*)/>', html)
    assert [float(height) / 100 * max(values) for height, _ in bars] == pytest.approx(list(values))
    assert ["left-out" in marked for _, marked in bars] == [index >= kept for index in range(8)]
    assert "4.00 on average in the first eighth" in html


def test_a_profile_of_nothing_is_drawn():
    assert 'height="0.00"' in profile_bars(ChannelProfile("variance", (0.0, 0.0), None), 2)
