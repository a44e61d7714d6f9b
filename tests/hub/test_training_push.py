"""`--push_to_hub` of the training scripts: what a run makes arrives, and a bad target is told beforehand."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from hub_users import READ_TOKEN, TOKEN

from star_hf import AutoencoderStar
from star_hf.data import open_latents

TRAINING = Path(__file__).parents[2] / "training"
sys.path.insert(0, str(TRAINING))

pytest.importorskip("datasets")
pytest.importorskip("yaml")

AUTOENCODER = """
max_steps: 2
log_every: 2
validate_every: 2
save_every: 2
threads: 1
report_to: []
model:
  encoder_hidden_size: 4
  decoder_channels: 4
  downsampling_ratios: [4, 8]
  channel_multiples: [1, 2]
  decoder_input_channels: 8
  sampling_rate: 8000
  context_type: none
data:
  batch_size: 2
  validation_fraction: 0.2
  validation_seconds: 0.3
  crops: {num_samples: 2048}
losses: {waveform: 1.0, kl: 1.0}
"""


@pytest.fixture(autouse=True)
def _fresh_accelerator():
    from accelerate.state import AcceleratorState, GradientState

    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture
def recordings(tmp_path):
    folder = tmp_path / "recordings"
    folder.mkdir()
    rows = ["file_name,text"]
    for index in range(5):
        soundfile.write(folder / f"{index}.wav", 0.1 * np.sin(np.arange(3200) * (0.1 + index / 10)), 8000)
        rows.append(f"{index}.wav,tone {index}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def train(recordings, tmp_path):
    """Run train_autoencoder.py with further options; the run is `tmp_path / "run"`."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(AUTOENCODER)
    main = importlib.import_module("train_autoencoder").main
    own = ["--config", str(recipe), "--output_dir", str(tmp_path / "run"), "--data.source", str(recordings)]
    return lambda *more: main([*own, *more])


@pytest.fixture
def encode(recordings, autoencoder_folder, tmp_path):
    """Run encode_latents.py with further options; the latents are `tmp_path / "latents"`."""
    main = importlib.import_module("encode_latents").main
    own = {"vae": autoencoder_folder, "source": recordings, "output_dir": tmp_path / "latents"}
    options = [text for key, value in own.items() for text in (f"--{key}", str(value))]
    return lambda *more: main([*options, *more])


def test_a_trained_model_arrives_and_loads(hub, client, train, tmp_path, capsys):
    options = ["--push_to_hub", "me/vae", "--hub_private", "--hub_revision", "run-1", "--hub_license", "mit"]
    train(*options)
    assert f"pushed to {hub.url}/me/vae" in capsys.readouterr().out
    repository = hub.repository("me/vae")
    files = repository.files("run-1")
    export = tmp_path / "run" / "export"
    expected = {path.name for path in export.iterdir()} | {"README.md", ".gitattributes"}
    assert set(files) == expected and repository.private
    assert b"license: mit" in files["README.md"]
    assert "hf_" not in (tmp_path / "run" / "arguments.yaml").read_text()
    model = AutoencoderStar.from_pretrained("me/vae", revision="run-1")
    trained = AutoencoderStar.from_pretrained(export)
    assert all((a == b).all() for a, b in zip(model.parameters(), trained.parameters(), strict=True))


def test_a_bad_target_is_told_before_the_training(hub, client, train, tmp_path, capsys):
    hub.create("me/other", files={"config.json": b'{"_class_name": "AutoencoderOobleck"}'})
    for token, name, message in (
        (None, "me/vae", "nothing could be pushed to me/vae: there is no token"),
        (READ_TOKEN, "me/vae", "may only read"),
        (TOKEN, "me/other", "me/other on the Hub holds an AutoencoderOobleck, not an AutoencoderStar"),
    ):
        client(token)
        with pytest.raises(SystemExit) as stop:
            train("--push_to_hub", name)
        assert stop.value.code == 1 and message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--push_to_hub", "vae"], "it must be user/name or organization/name"),
        (["--hub_private"], "hub_private is given, but not push_to_hub"),
        (["--hub_revision", "v1"], "hub_revision is given, but not push_to_hub"),
    ],
)
def test_options_that_cannot_be_meant(hub, client, train, encode, capsys, options, message):
    for script in (train, encode):
        with pytest.raises(SystemExit) as stop:
            script(*options)
        assert stop.value.code == 1 and message in capsys.readouterr().err
    assert not hub.requests


def test_a_push_that_fails_at_the_end_is_made_up_for_by_the_same_command(
    hub, client, train, tmp_path, capsys
):
    export = tmp_path / "run" / "export"
    with hub.fault(r"POST .*/commit/"), pytest.raises(SystemExit) as stop:
        train("--push_to_hub", "me/vae")
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert "the connection to" in error
    assert f"{export} is complete; to send it: star-hf push {export} me/vae" in error
    trained = {path.name: path.read_bytes() for path in export.iterdir()}
    train("--push_to_hub", "me/vae")
    files = hub.repository("me/vae").files()
    assert all(files[name] == content for name, content in trained.items())


def test_encoded_latents_arrive_and_a_finished_dataset_is_only_sent(hub, client, encode, tmp_path, capsys):
    encode()
    before = (tmp_path / "latents" / "latents.json").stat().st_mtime_ns
    encode("--push_to_hub", "me/latents", "--hub_license", "cc0-1.0")
    assert "is complete already" in capsys.readouterr().out
    assert (tmp_path / "latents" / "latents.json").stat().st_mtime_ns == before
    rows, info = open_latents("me/latents")
    assert len(rows) == info.num_rows == 5
    assert b"license: cc0-1.0" in hub.repository("me/latents", "dataset").files()["README.md"]


def test_latents_ask_the_hub_before_they_are_encoded(hub, client, encode, tmp_path, capsys):
    client(None)
    with pytest.raises(SystemExit):
        encode("--push_to_hub", "me/latents")
    assert "there is no token" in capsys.readouterr().err
    assert not (tmp_path / "latents").exists()


def test_every_process_ends_where_the_hub_refuses(hub, client, monkeypatch):
    """Only the main one asks; the others hear of it."""
    script = importlib.import_module("engine.script")
    publishing = importlib.import_module("engine.publishing")
    arguments = publishing.PublishingArguments(push_to_hub="me/vae")
    said = []
    monkeypatch.setattr(script, "gather_object", lambda own: said.extend(own) or ["the Hub refuses"])
    for main in (True, False):
        accelerator = SimpleNamespace(is_main_process=main, num_processes=2)
        with pytest.raises(OSError, match="the Hub refuses"):
            script._check_hub_on_main(arguments, publishing.AUTOENCODER, accelerator)
    assert said == [None, None] and hub.count("GET /api/whoami") == 1


@pytest.mark.parametrize(
    ("script", "exports"),
    [
        ("train_autoencoder", "AUTOENCODER"),
        ("train_lafa", "LAFA"),
        ("train_generator", "GENERATOR"),
        ("train_dit", "DIT"),
    ],
)
def test_every_script_names_what_it_exports(monkeypatch, script, exports):
    module, publishing = importlib.import_module(script), importlib.import_module("engine.publishing")
    called = []
    monkeypatch.setattr(module, "run_script", lambda *arguments, **options: called.append(options))
    module.main([])
    assert called == [{"exports": getattr(publishing, exports)}]
