"""`star-hf demo` with the embedded checkpoint in a real headless Chromium, from the prompt to the sound."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from star_hf import audio_info, read_audio

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
TIMEOUT = 120_000  # milliseconds; a busy machine is no failure
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}

pytest.importorskip("gradio", reason='the demo needs gradio: pip install "star-hf[demo]"')
playwright_api = pytest.importorskip("playwright.sync_api", reason="the browser is driven by playwright")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
]


class Proxy:
    """Counts who tries to reach the internet: the demo's process is told that this is its only way out."""

    def __init__(self):
        self.requests = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self._socket.accept()
                with connection:
                    connection.settimeout(5)
                    with contextlib.suppress(OSError):
                        self.requests.append(connection.recv(1000))

    def close(self):
        self._socket.close()


@pytest.fixture(scope="module")
def proxy():
    proxy = Proxy()
    yield proxy
    proxy.close()


@pytest.fixture(scope="module")
def address(proxy, tmp_path_factory):
    """Where `star-hf demo` serves, with uploads of 20 s and 1 MB at most."""
    folder = tmp_path_factory.mktemp("demo")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    outside = dict.fromkeys(
        ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), proxy.url
    )
    inside = dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1,localhost")
    command = "from star_hf.cli import main; main()"
    options = ["--port", str(port), "--max-seconds", "20", "--max-megabytes", "1", "--device", "cpu"]
    with (folder / "stderr.txt").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", command, "demo", *options],
            env={**os.environ, **outside, **inside, "TMPDIR": str(folder), "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        url = process.stdout.readline().strip()
        assert url == f"http://127.0.0.1:{port}/", (folder / "stderr.txt").read_text()
        yield url
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert "Traceback" not in (folder / "stderr.txt").read_text()
    assert not list(folder.glob("star-hf-demo-*")), "the demo's files are left behind"


@pytest.fixture(scope="module")
def browser():
    """A Chromium that sees the recorded requests of all its pages."""
    with playwright_api.sync_playwright() as playwright, tempfile.TemporaryDirectory() as profile:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=CHROMIUM,
            args=list(ARGUMENTS),
            viewport=DESKTOP,
            accept_downloads=True,
        )
        context.set_default_timeout(TIMEOUT)
        yield context
        context.close()


@pytest.fixture
def open_page(browser, address):
    """Open the demo; afterwards nothing may have been asked of any other address, and nothing have thrown."""
    requested, thrown, pages = [], [], []

    def open_(viewport=DESKTOP, color_scheme="light"):
        page = browser.new_page()
        pages.append(page)
        page.on("request", lambda request: requested.append(request.url))
        page.on("pageerror", lambda error: thrown.append(str(error)))
        page.set_viewport_size(viewport)
        page.emulate_media(color_scheme=color_scheme)
        page.goto(address)
        page.get_by_label("Prompt", exact=True).wait_for()
        return page

    yield open_
    for page in pages:
        page.close()
    assert [url for url in requested if not url.startswith((address, "data:", f"blob:{address}"))] == []
    assert thrown == []


@pytest.fixture
def shoot(request, tmp_path):
    """Save a picture of the page; where `STAR_HF_SCREENSHOTS` names a folder, there."""

    def save(page, name):
        folder = Path(os.environ.get("STAR_HF_SCREENSHOTS", tmp_path))
        page.screenshot(path=folder / f"{name}.png", full_page=True)

    return save


def _set(page, name, value):
    field = page.get_by_label(f"number input for {name}")
    field.fill(str(value))
    field.press("Tab")


def _wait_for(page, selector, text):
    page.wait_for_function(
        "([selector, text]) => document.querySelector(selector)?.innerText.includes(text)",
        arg=[selector, text],
    )


def _generate(page, prompt="a dog barking", seconds=1, steps=2, seed=0):
    """Fill the form and press Enter in the prompt; some seeds begin with a silent second, 0 does not."""
    page.get_by_label("New seed each time").set_checked(seed is None)
    if seed is not None:
        page.get_by_label("Seed", exact=True).fill(str(seed))
    _set(page, "Seconds", seconds)
    _set(page, "Steps", steps)
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.get_by_label("Prompt", exact=True).press("Enter")


def _download(page, button, attempts=3):
    """What a button downloads. On a busy machine Gradio may draw it anew under the click."""
    from playwright.sync_api import TimeoutError as NothingCame

    for attempt in range(attempts):
        try:
            with page.expect_download(timeout=40_000) as download:
                button.click()
            return download.value
        except NothingCame:
            if attempt == attempts - 1:
                raise


def _pixels(element):
    """What Chromium shows of an element, (rows, columns, 3) in 0 to 255."""
    from PIL import Image

    element.scroll_into_view_if_needed()
    return np.asarray(Image.open(io.BytesIO(element.screenshot())).convert("RGB"), dtype=np.float64)


def _picture(page, name):
    picture = page.locator(f"#{name} figure img")
    picture.wait_for()
    return picture


def _fits(page):
    """Nothing is wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def _upload(page, tab, path):
    page.get_by_role("tab", name=tab).click()
    page.get_by_role("tabpanel").locator("visible=true").locator("input[type=file]").set_input_files(path)


def _take_generated_clip(page, tab):
    page.get_by_role("tab", name=tab).click()
    page.get_by_role("button", name="Use the generated clip").locator("visible=true").click()
    _clear_button(page).wait_for()


def _clear_button(page):
    return page.get_by_label("Clear").locator("visible=true").first


def _error(page, text):
    page.get_by_test_id("toast-body").filter(has_text=text).wait_for()


def test_a_prompt_becomes_a_sound_that_is_seen_and_downloaded(open_page, shoot, tmp_path):
    page = open_page()
    shoot(page, "start-light")
    page.evaluate(
        """() => {
          window.seen = [];
          new MutationObserver(() => {
            const bar = document.querySelector('#status progress');
            if (bar) window.seen.push([bar.value, bar.max]);
          }).observe(document.querySelector('#status'), {
            childList: true, subtree: true, attributes: true, characterData: true
          });
        }"""
    )
    _generate(page, steps=60)
    _wait_for(page, "#status", "a dog barking: 1 clip of 1 s in")
    steps = [value for value, total in page.evaluate("window.seen") if total == 60]
    assert steps == sorted(steps) and len(set(steps)) >= 4, "the bar does not follow the sampler"

    pixels = _pixels(_picture(page, "clip-1"))
    assert pixels.std() > 20, "the spectrogram is of one colour"
    assert page.locator("#clip-1 #duration").inner_text() == "0:01"
    shoot(page, "generated-light")

    clips = {}
    for format in ("WAV", "FLAC"):
        download = _download(page, page.locator("#clip-1").get_by_role("button", name=f"Download {format}"))
        path = tmp_path / download.suggested_filename
        download.save_as(path)
        assert path.name == f"a-dog-barking-0.{format.lower()}"
        info = audio_info(path)
        assert (info.sampling_rate, info.channels, info.num_frames) == (44100, 2, 44100)
        clips[format] = read_audio(path)[0]
    assert clips["WAV"].abs().max() > 0.01
    assert (clips["WAV"] - clips["FLAC"]).abs().max() <= 1 / 32768


def test_stop_ends_what_runs_and_what_waits_and_the_page_goes_on(open_page):
    page, waiting = open_page(), open_page()
    _generate(page, seconds=20, steps=200)
    _wait_for(page, "#status", "of 200")
    _generate(waiting, steps=150)
    _wait_for(waiting, "#status", "queue:")
    waiting.get_by_role("button", name="Stop").click()
    page.bring_to_front()
    page.get_by_role("button", name="Stop").click()
    _wait_for(page, "#status", "Stopped at step")
    assert int(re.search(r"step (\d+) of 200", page.locator("#status").inner_text())[1]) < 190
    _wait_for(waiting, "#status", "Stopped at step 0 of 150")
    assert "Stopped at step" in page.locator("#status").inner_text()
    assert page.locator("#clip-1").count() == 0 or not page.locator("#clip-1").is_visible()
    _generate(page, seed=None)
    _wait_for(page, "#status", "1 clip of 1 s")
    assert page.get_by_label("Seed", exact=True).input_value() != "0"


def test_variations_stand_below_each_other_and_go_with_the_next_request(open_page):
    page = open_page()
    _set(page, "Variations", 2)
    _generate(page)
    _wait_for(page, "#status", "2 clips of 1 s")
    _picture(page, "clip-2")
    seeds = [page.locator(f"#clip-{number} [data-testid=block-label]").inner_text() for number in (1, 2)]
    assert [seed.strip() for seed in seeds] == ["Seed 0", "Seed 1"]
    _set(page, "Variations", 1)
    _generate(page)
    _wait_for(page, "#status", "1 clip of 1 s")
    page.locator("#clip-2").wait_for(state="hidden")


def test_an_upload_is_reconstructed_and_measured(open_page, shoot, tmp_path):
    page = open_page()
    rate, seconds = 22050, 1.5
    sweep = np.sin(
        2 * np.pi * 400 * 2 ** np.linspace(0, 3, int(rate * seconds)) * np.linspace(0, 1, int(rate * seconds))
    )
    soundfile.write(tmp_path / "sweep.wav", 0.4 * sweep, rate)
    _upload(page, "Reconstruct", tmp_path / "sweep.wav")
    page.get_by_role("button", name="Reconstruct", exact=True).click()
    _wait_for(page, "#metrics", "SI-SDR")
    rows = page.locator("#metrics tbody tr").all_inner_texts()
    assert [row.split("\n")[0] for row in rows] == [
        "STFT distance",
        "Mel distance",
        "SI-SDR",
        "Loudness difference",
        "Rate",
    ]
    assert all(re.search(r"\d", row) for row in rows)
    original, decoded = (_pixels(_picture(page, name)) for name in ("original", "reconstruction"))
    assert original.std() > 20 and decoded.std() > 20
    assert original.shape != decoded.shape or np.abs(original - decoded).mean() > 1
    shoot(page, "reconstructed-light")


def test_the_slider_decodes_more_channels_by_keyboard(open_page, shoot):
    page = open_page()
    _generate(page)
    _wait_for(page, "#status", "1 clip of 1 s")
    _take_generated_clip(page, "Latents")
    page.get_by_role("button", name="Encode").click()
    _wait_for(page, "#share", "The first 8 of 64 channels carry")
    before = _pixels(_picture(page, "part"))
    share = page.locator("#share").inner_text()
    slider = page.get_by_label("range slider for Channels decoded")
    slider.focus()
    for _ in range(3):
        slider.press("ArrowRight")
    _wait_for(page, "#share", "The first 11 of 64 channels carry")
    page.locator("#part [data-testid=block-label]").filter(has_text="11 of 64 channels").wait_for()
    after = _pixels(_picture(page, "part"))
    assert page.locator("#profile rect:not(.star-left-out)").count() == 11
    assert page.locator("#profile rect").count() == 64
    assert after.std() > 20 and np.abs(before - after).mean() > 0.1
    percent = [int(re.search(r"(\d+)%", text)[1]) for text in (share, page.locator("#share").inner_text())]
    assert percent[1] > percent[0]
    shoot(page, "latents-light")


def test_bad_input_gets_a_message_that_can_be_read(open_page, shoot, tmp_path):
    page = open_page()
    page.get_by_role("button", name="Generate", exact=True).click()
    _error(page, "The prompt is empty: write what you want to hear.")
    _generate(page, seed=-5)
    _error(page, "Seed must be between 0 and 4294967295, not -5.")

    (tmp_path / "notes.wav").write_text("These are notes, and no sound.\n" * 40)
    soundfile.write(tmp_path / "lecture.flac", np.zeros(3 * 3600 * 100, dtype="int16"), 100)
    noise = np.random.default_rng(0).integers(-9000, 9000, 600_000).astype("int16")
    soundfile.write(tmp_path / "large.wav", noise, 44100)
    for name, message in (
        ("notes.wav", "notes.wav: is not audio that libsndfile reads"),
        ("lecture.flac", "lecture.flac is 3:00:00 h long; at most 20 s are allowed."),
    ):
        _upload(page, "Reconstruct", tmp_path / name)
        _clear_button(page).wait_for()
        page.get_by_role("button", name="Reconstruct", exact=True).click()
        _error(page, message)
        shoot(page, f"error-{Path(name).stem}")
        _clear_button(page).click()
    _upload(page, "Reconstruct", tmp_path / "large.wav")
    _error(page, "maximum allowed size of 1.0 M")
    assert page.locator("#original").count() == 0 or not page.locator("#original").is_visible()


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_on_a_phone_nothing_is_wider_than_the_screen(open_page, shoot, color_scheme):
    page = open_page(PHONE, color_scheme)
    assert _fits(page)
    _generate(page)
    _wait_for(page, "#status", "1 clip of 1 s")
    _picture(page, "clip-1")
    assert _fits(page)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = np.mean([int(value) for value in re.findall(r"\d+", background)[:3]])
    assert brightness < 60 if color_scheme == "dark" else brightness > 200
    shoot(page, f"phone-generated-{color_scheme}")
    for tab, button, ready in (
        ("Reconstruct", "Reconstruct", "#metrics table"),
        ("Latents", "Encode", "#part img"),
    ):
        _take_generated_clip(page, tab)
        page.get_by_role("button", name=button, exact=True).click()
        page.locator(ready).wait_for()
        assert _fits(page)
        shoot(page, f"phone-{tab.lower()}-{color_scheme}")


def test_the_keyboard_reaches_everything_in_order(open_page):
    page = open_page()
    page.get_by_label("Prompt", exact=True).focus()
    names = []
    for _ in range(40):
        page.keyboard.press("Tab")
        names.append(
            page.evaluate(
                "(e => e.ariaLabel || e.labels?.[0]?.innerText || e.innerText)(document.activeElement)"
            ).strip()
        )
        if names[-1] == "New seed each time":
            break
    expected = ["Negative prompt", "Generate", "Stop"]
    expected += [f"range slider for {name}" for name in ("Seconds", "Steps", "Guidance", "Variations")]
    expected += ["Seed", "New seed each time"]
    assert [name for name in names if name in expected] == expected
    assert all(names), "a control without a name"


def test_the_demo_asks_nothing_of_the_internet(proxy, address):
    """Last, after everything that the other tests made the server do."""
    assert proxy.requests == []
