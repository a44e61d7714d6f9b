"""The page as Gradio is told to build it, and its errors; what a browser sees is in `test_browser.py`."""

from __future__ import annotations

import logging

import pytest

gr = pytest.importorskip("gradio", reason='the demo needs gradio: pip install "star-hf[demo]"')

from star_hf.demo import Limits, Studio, serve  # noqa: E402
from star_hf.demo.page import build_page  # noqa: E402
from star_hf.demo.server import check_address  # noqa: E402
from star_hf.demo.wording import errors_for_visitors, metrics_table, share_note  # noqa: E402


@pytest.fixture
def page(make_studio):
    return build_page(make_studio(limits=Limits(max_waiting=3)), ["rain falling"])


def _labels(page, kind):
    return [block.label for block in page.blocks.values() if isinstance(block, kind)]


def test_events_of_the_model_share_one_place_in_one_bounded_queue(page):
    waiting = [event for event in page.fns.values() if event.queue and event.fn is not None]
    assert len(waiting) == 4  # generate, reconstruct, encode, decode
    assert {(event.concurrency_id, event.concurrency_limit) for event in waiting} == {("model", 1)}
    assert page._queue.max_size == 3


def test_the_page_sends_nothing_and_offers_no_api(page):
    assert page.analytics_enabled is False
    assert {event.api_visibility for event in page.fns.values() if event.fn is not None} == {"private"}


def test_every_control_of_the_generator_is_there_with_the_models_bounds(page):
    assert {"Prompt", "Negative prompt"} <= set(_labels(page, gr.Textbox))
    sliders = {block.label: block for block in page.blocks.values() if isinstance(block, gr.Slider)}
    assert set(sliders) == {"Seconds", "Steps", "Guidance", "Variations", "Channels decoded"}
    assert sliders["Seconds"].maximum == 60 and sliders["Channels decoded"].maximum == 4
    assert "Seed" in _labels(page, gr.Number)


def test_an_autoencoder_alone_has_no_tab_to_generate(tiny_autoencoder, tmp_path):
    page = build_page(Studio(tiny_autoencoder, folder=tmp_path))
    assert _labels(page, gr.Tab) == ["Reconstruct", "Latents"]
    assert "Prompt" not in _labels(page, gr.Textbox)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("Seconds must be less."), "Seconds must be less."),
        (OSError("clip.wav <b>cannot</b> be read."), "clip.wav &lt;b&gt;cannot&lt;/b&gt; be read."),
        (MemoryError(), "There is not enough memory for this. Try fewer seconds."),
        (ZeroDivisionError("1/0"), "This failed (ZeroDivisionError). The terminal of the demo has details."),
    ],
)
def test_what_fails_becomes_a_short_message(error, message):
    with pytest.raises(gr.Error) as shown, errors_for_visitors():
        raise error
    assert shown.value.message == message
    assert shown.value.print_exception is False


def test_what_nobody_expected_is_logged_in_full(caplog):
    with caplog.at_level(logging.ERROR), pytest.raises(gr.Error), errors_for_visitors():
        raise ZeroDivisionError("a bug")
    assert "ZeroDivisionError: a bug" in caplog.text


def test_the_table_names_every_metric_and_says_where_there_is_no_value(studio, tone, tmp_path):
    import torch

    from star_hf import write_audio

    result = studio.reconstruct(tone)
    table = metrics_table(result)
    assert f"{result.scores.values['stft_distance']:.2f}" in table
    assert f"{result.rate_kbps:.2f} kbit/s" in table
    silence = studio.reconstruct(write_audio(tmp_path / "silence.wav", torch.zeros(1, 8000), 8000))
    assert "<td>–</td>" in metrics_table(silence)
    assert "<td>–</td>" not in table


def test_the_share_of_the_first_channels_is_that_of_their_kl(studio, tone):
    clip = studio.latents(tone)
    values = clip.profile.values
    assert f"The first 1 of 4 channels carry {values[0] / sum(values):.0%} of" in share_note(clip, 1)
    assert "carry 100% of" in share_note(clip, 4)


def test_a_host_that_is_none_of_this_machine_is_named():
    with pytest.raises(OSError, match="cannot listen on host 203.0.113.7: "):
        check_address("203.0.113.7")


def test_a_taken_port_is_named(tiny_autoencoder):
    import os
    import socket

    before = os.environ.get("GRADIO_TEMP_DIR")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on host 127.0.0.1, port {port}: Address already"):
            with serve(tiny_autoencoder, port=port):
                pass
    assert os.environ.get("GRADIO_TEMP_DIR") == before
