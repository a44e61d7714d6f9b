"""What a push would send: kinds, files that go and files that stay, and what is refused beforehand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
from hub_users import CARD
from safetensors.numpy import save_file

from star_hf.hub import plan_upload
from star_hf.hub.contents import Contents
from star_hf.hub.kinds import Kind, recognize

TOKEN = "hf_" + "aB3" * 11 + "x"


@pytest.fixture(autouse=True)
def _no_token(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def paths(plan):
    return {file.path for file in plan.files}


def reasons(plan):
    return {file.path: file.reason for file in plan.left_out}


def write_sound(file, seconds=0.1, rate=8000):
    file.parent.mkdir(exist_ok=True)
    soundfile.write(file, np.zeros(int(seconds * rate)), rate)


@pytest.mark.parametrize(
    ("name", "kind", "repo_type"),
    [
        ("pipeline", Kind("pipeline", "StarGenPipeline"), "model"),
        ("stable_audio", Kind("pipeline", "StableAudioPipeline"), "model"),
        ("autoencoder", Kind("autoencoder", "AutoencoderStar"), "model"),
        ("generator", Kind("generator", "StarGenModel"), "model"),
        ("adapter", Kind("adapter", "StarGenModel"), "model"),
        ("latents", Kind("latents", "LatentDataset"), "dataset"),
    ],
)
def test_every_kind_is_recognized_and_all_its_files_go(request, name, kind, repo_type):
    folder = request.getfixturevalue(f"{name}_folder")
    plan = plan_upload(folder, "me/thing")
    assert plan.kind == kind and plan.kind.repo_type == repo_type
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert paths(plan) == there | {"README.md"} and not plan.left_out
    sizes = {file.path: file.size for file in plan.files}
    assert all(sizes[path] == (folder / path).stat().st_size for path in there)
    assert plan.size == sum(sizes.values())


def test_the_written_card_has_the_metadata_that_the_hub_sorts_by(
    pipeline_folder, adapter_folder, latents_folder
):
    (pipeline_folder / "README.md").unlink()
    metadata = plan_upload(pipeline_folder, "me/thing", license="cc-by-4.0").metadata
    assert metadata["library_name"] == "star_hf" and metadata["pipeline_tag"] == "text-to-audio"
    assert metadata["license"] == "cc-by-4.0" and "audio" in metadata["tags"]
    assert plan_upload(adapter_folder, "me/thing").metadata["base_model"] == "me/base"
    card = plan_upload(latents_folder, "me/thing", license="cc0-1.0")
    assert card.metadata["license"] == "cc0-1.0" and b"me/thing" in card.files[0].content
    assert not (pipeline_folder / "README.md").exists(), "a plan writes nothing"


def test_a_run_means_its_export(autoencoder_folder, tmp_path):
    run = tmp_path / "run"
    (run / "checkpoints" / "step_00000001").mkdir(parents=True)
    (run / "train.log").write_text("done")
    with pytest.raises(ValueError, match="has not saved a model yet"):
        plan_upload(run)
    autoencoder_folder.rename(run / "export")
    plan = plan_upload(run)
    assert plan.folder == run / "export" and plan.kind.name == "autoencoder"
    assert any("is a training run: its export/ is sent" in note for note in plan.notes)
    (run / "checkpoints" / "step_00000001" / "run_state.json").write_text("{}")
    with pytest.raises(ValueError, match="training checkpoint, with the state of the optimizer"):
        plan_upload(run / "checkpoints" / "step_00000001")


STRAYS = {
    "optimizer.bin": "training state",
    "vae/optimizer.safetensors": "training state",
    "random_states_0.pkl": "training state",
    "checkpoints/step_00000001/model.safetensors": "training state",
    "pytorch_model.bin": "pickled; only safetensors are sent",
    "model/pytorch_model.pt": "pickled; only safetensors are sent",
    "model/discriminator.safetensors": "weights that are not part of a StarGenPipeline",
    "other/model.safetensors": "weights that are not part of a StarGenPipeline",
    "train.log": "a log",
    "metrics.jsonl": "a log",
    "events.out.tfevents.1": "a log",
    ".env": "hidden",
    ".git/config": "hidden",
    "modeling.py": "code",
    "notes.txt": "not part of a StarGenPipeline",
    "LICENSES/notes.txt": "not part of a StarGenPipeline",
    "vae/other.model": "not part of a StarGenPipeline",
    "vae/star_hf.py": "code",
    "sound.wav": "the card does not show it",
}


def test_what_is_not_the_model_stays_and_is_named(pipeline_folder):
    for path in STRAYS:
        (pipeline_folder / path).parent.mkdir(parents=True, exist_ok=True)
        (pipeline_folder / path).write_bytes(TOKEN.encode())
    plan = plan_upload(pipeline_folder)
    # a working copy's own files are not even listed
    expected = {path: reason for path, reason in STRAYS.items() if not path.startswith(".git/")}
    assert reasons(plan) == expected and not paths(plan) & set(STRAYS)


def test_shards_and_variants_of_weights_go(autoencoder_folder):
    kind = Kind("autoencoder", "AutoencoderStar")
    for name in (
        "diffusion_pytorch_model-00001-of-00002.safetensors",
        "diffusion_pytorch_model.fp16.safetensors",
        "diffusion_pytorch_model.safetensors.index.json",
        "model.safetensors.index.fp16.json",
    ):
        assert Contents(kind).is_payload(name), name
    for name in ("model_1.safetensors", "ema.safetensors", "x/model.safetensors"):
        assert not Contents(kind).is_payload(name), name


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no model"),
        ({"notes.txt": "hello"}, "holds no model"),
        ({"config.json": "not json"}, "config.json: is not valid JSON"),
        ({"config.json": '{"_class_name": "AutoencoderOobleck"}'}, "holds an AutoencoderOobleck; known are"),
        ({"config.json": '{"model_type": "qwen3", "architectures": ["Qwen3Model"]}'}, "holds a Qwen3Model"),
        ({"model_index.json": '{"_class_name": "DDPMPipeline"}'}, "holds a DDPMPipeline; known are"),
        ({"adapter_config.json": "{}"}, "adapter of PEFT without star_gen_heads.safetensors"),
    ],
)
def test_a_folder_that_is_no_model_is_refused_by_name(tmp_path, files, message):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        plan_upload(folder)
    assert str(folder) in str(error.value)


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: this folder does not exist"):
        plan_upload(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="file: is a file"):
        plan_upload(tmp_path / "file")


@pytest.mark.parametrize("name", ["thing", "me/thing/vae", "me/--", "https://hf.co/me/thing", ""])
def test_names_that_the_hub_does_not_have(pipeline_folder, name):
    with pytest.raises(ValueError, match="is not a name of the Hub"):
        plan_upload(pipeline_folder, name)


def damage_weights(folder):
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])


def make_index(folder):
    index = {"weight_map": {"a": "diffusion_pytorch_model-00002-of-00002.safetensors"}}
    (folder / "vae" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damage_weights, "vae/diffusion_pytorch_model.safetensors: is no complete safetensors file"),
        (
            lambda f: (f / "model" / "model.safetensors").unlink(),
            "model/config.json is there, but no weights",
        ),
        (make_index, "names diffusion_pytorch_model-00002-of-00002.safetensors, not there"),
        (
            lambda f: (f / "scheduler" / "scheduler_config.json").unlink(),
            "names scheduler, which is not there",
        ),
        (lambda f: (f / "pipeline.py").write_text("import os"), "pipeline.py: is code"),
        (lambda f: (f / "vae" / "config.json").write_text("{"), "vae/config.json: is not valid JSON"),
    ],
)
def test_a_model_that_is_damaged_or_not_whole_is_refused(pipeline_folder, change, message):
    change(pipeline_folder)
    with pytest.raises(ValueError, match=message):
        plan_upload(pipeline_folder)


def test_latents_that_are_not_whole_are_refused(latents_folder):
    (latents_folder / "latents-00001.parquet").unlink()
    with pytest.raises(ValueError, match="1 files latents-.*have 2 rows, latents.json says 3"):
        plan_upload(latents_folder)
    (latents_folder / "latents-00000.parquet").write_text("no Parquet")
    with pytest.raises(ValueError, match="latents-00000.parquet: is no complete Parquet file"):
        plan_upload(latents_folder)


@pytest.mark.parametrize(
    "secret",
    [
        TOKEN,
        "ghp_" + "a1" * 18,
        "sk-proj-" + "a1B2" * 10,
        "AKIA" + "ABCD1234" * 2,
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        "https://me:secret@example.com/repo.git",
    ],
)
@pytest.mark.parametrize("name", ["README.md", "vae/config.json", "LICENSE"])
def test_a_secret_in_a_text_stops_everything(pipeline_folder, name, secret):
    file = pipeline_folder / name
    old = json.loads(file.read_text()) if file.suffix == ".json" else {}
    file.write_text(json.dumps({**old, "note": secret}) if name.endswith("json") else f"{CARD}\n\n{secret}\n")
    with pytest.raises(ValueError, match=f"{name}: holds .* in line") as error:
        plan_upload(pipeline_folder)
    assert secret not in str(error.value)


def test_a_secret_in_the_metadata_of_weights_stops_everything(autoencoder_folder):
    from safetensors.numpy import load_file

    weights = autoencoder_folder / "diffusion_pytorch_model.safetensors"
    save_file(load_file(weights), weights, metadata={"format": "pt", "trained_with": TOKEN})
    with pytest.raises(ValueError, match="metadata of diffusion_pytorch_model.safetensors: holds a Hugging"):
        plan_upload(autoencoder_folder)


def test_the_token_of_this_machine_counts_however_it_looks(pipeline_folder, monkeypatch):
    (pipeline_folder / "README.md").write_text(f"{CARD}\nplain-words-are-a-token\n")
    plan_upload(pipeline_folder)
    monkeypatch.setenv("HF_TOKEN", "plain-words-are-a-token")
    with pytest.raises(ValueError, match="README.md: holds a token of this machine in line 10"):
        plan_upload(pipeline_folder)


def test_words_that_only_resemble_secrets_pass(pipeline_folder):
    (pipeline_folder / "README.md").write_text(
        f"{CARD}\nSet HF_TOKEN=hf_xxx; see https://hf.co/me, `sk-learn`.\n"
    )
    plan_upload(pipeline_folder)


def test_what_the_card_shows_goes_and_other_media_stay(pipeline_folder):
    links = [
        "![spectrograms](card/spectrograms.png)",
        '<audio controls src="card/a%20dog.flac"></audio>',
        "[all numbers](card/results.json), [elsewhere](https://example.com/x.wav), [below](#a-model)",
        "<audio controls src='https://huggingface.co/me/thing/resolve/main/card/rain.ogg'></audio>",
        "<audio controls src='https://huggingface.co/other/thing/resolve/main/card/theirs.ogg'></audio>",
        "```\n![not shown](card/missing.png)\n```",
    ]
    widget = "widget:\n- text: waves\n  output: {url: card/waves.wav}\n"
    card = CARD.replace("tags:", f"{widget}tags:") + "\n\n".join(links)
    (pipeline_folder / "README.md").write_text(card)
    for name in ("a dog.flac", "rain.ogg", "waves.wav", "unused.wav"):
        write_sound(pipeline_folder / "card" / name)
    (pipeline_folder / "card" / "spectrograms.png").write_bytes(b"\x89PNG")
    (pipeline_folder / "card" / "results.json").write_text("{}")
    plan = plan_upload(pipeline_folder, "me/thing")
    shown = {"a dog.flac", "rain.ogg", "waves.wav", "spectrograms.png", "results.json"}
    assert {path for path in paths(plan) if path.startswith("card/")} == {f"card/{name}" for name in shown}
    assert reasons(plan) == {"card/unused.wav": "the card does not show it"}
    (pipeline_folder / "card" / "rain.ogg").unlink()
    with pytest.raises(ValueError, match="README.md: shows card/rain.ogg, which is not in"):
        plan_upload(pipeline_folder, "me/thing")


def test_a_card_that_was_written_for_another_name_is_said(pipeline_folder):
    link = '<audio src="https://huggingface.co/me/old/resolve/main/card/rain.flac"></audio>'
    (pipeline_folder / "README.md").write_text(CARD + link)
    write_sound(pipeline_folder / "card" / "rain.flac")
    note = "README.md links to files of me/old, not of me/new: write it again with --repo me/new."
    assert note in plan_upload(pipeline_folder, "me/new").notes
    assert not plan_upload(pipeline_folder, "me/old").notes


def test_a_card_links_to_nothing_that_must_not_go(pipeline_folder):
    (pipeline_folder / "card").mkdir()
    for name in (".env", "optimizer.bin", "card/.secret.json"):
        (pipeline_folder / name).write_text("x")
        (pipeline_folder / "README.md").write_text(f"{CARD}\n[it]({name})\n")
        with pytest.raises(ValueError, match=f"links to {name}, which is not sent"):
            plan_upload(pipeline_folder)


def test_sound_that_does_not_play_or_is_far_too_long(pipeline_folder, monkeypatch):
    (pipeline_folder / "README.md").write_text(f'{CARD}\n<audio src="a.wav"></audio>\n')
    sound = pipeline_folder / "a.wav"
    sound.write_text("a text that was renamed")
    with pytest.raises(ValueError, match="a.wav: the card shows it, but it does not play"):
        plan_upload(pipeline_folder)
    write_sound(sound, seconds=3)
    plan_upload(pipeline_folder)
    monkeypatch.setattr("star_hf.hub.checks.MAX_MEDIA_BYTES", 40_000)
    with pytest.raises(ValueError, match="a.wav: lasts 3 s.* Cut it"):
        plan_upload(pipeline_folder)


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (CARD + "{{ generation.accuracy }} of them", "'{{ generation.accuracy }}' was not filled in"),
        (CARD + "{% if x %}", "'{% if x %}' was not filled in"),
        ("---\nlicense: [\n---\n", "its metadata cannot be read"),
        ("---\n- a list\n---\n", "its metadata cannot be read"),
        (
            CARD.replace("tags:", "model-index: [{name: x, results: [{task: {type: a}}]}]\ntags:"),
            "cannot be read",
        ),
    ],
)
def test_a_card_that_the_hub_could_not_show_is_refused(pipeline_folder, card, message):
    (pipeline_folder / "README.md").write_text(card)
    with pytest.raises(ValueError, match=message) as error:
        plan_upload(pipeline_folder)
    assert str(pipeline_folder / "README.md") in str(error.value)


@pytest.mark.parametrize("value", [".nan", ".inf", "null"])
def test_a_result_without_a_number_is_refused(pipeline_folder, value):
    metric = "{type: accuracy, value: " + value + "}"
    results = "[{task: {type: a}, dataset: {type: b, name: b}, metrics: [" + metric + "]}]"
    card = CARD.replace("tags:", f"model-index:\n- name: x\n  results: {results}\ntags:")
    (pipeline_folder / "README.md").write_text(card)
    with pytest.raises(ValueError, match="the result 'accuracy' has no number"):
        plan_upload(pipeline_folder)


def test_what_belongs_beside_a_card_goes(pipeline_folder):
    names = {"LICENSE", "LICENSE-weights.txt", "NOTICE.md", "ATTRIBUTION.csv", "CITATION.cff"}
    for name in names:
        (pipeline_folder / name).write_text("text")
    assert paths(plan_upload(pipeline_folder)) > names
    (pipeline_folder / "LICENSE").write_bytes(b"\xff\x00")
    with pytest.raises(ValueError, match="LICENSE: is not UTF-8 text"):
        plan_upload(pipeline_folder)


def test_a_whole_card_is_sent_as_it_is(pipeline_folder):
    (pipeline_folder / "README.md").write_text(CARD)
    plan = plan_upload(pipeline_folder)
    assert plan.files[0].content == CARD.encode() and not plan.notes


def test_metadata_that_a_card_lacks_are_added_on_the_way(pipeline_folder):
    text = "---\nlicense: mit\npipeline_tag: audio-to-audio\n---\n\n# Mine\n"
    (pipeline_folder / "README.md").write_text(text)
    plan = plan_upload(pipeline_folder, license="cc-by-4.0")
    sent = plan.files[0].content.decode()
    assert plan.metadata["license"] == "mit" and plan.metadata["pipeline_tag"] == "audio-to-audio"
    assert "library_name: star_hf" in sent and "# Mine" in sent
    assert any("metadata added to README.md as it is sent" in note for note in plan.notes)
    assert (pipeline_folder / "README.md").read_text() == text
    (pipeline_folder / "README.md").write_text("# Mine, without metadata\n")
    assert plan_upload(pipeline_folder).metadata["library_name"] == "star_hf"


def test_a_missing_licence_is_said(pipeline_folder):
    (pipeline_folder / "README.md").write_text(CARD.replace("license: mit\n", ""))
    assert any("names no license" in note for note in plan_upload(pipeline_folder).notes)
    assert not any("names no license" in note for note in plan_upload(pipeline_folder, license="mit").notes)


def test_an_adapter_must_say_what_it_adapts(adapter_folder):
    weights = adapter_folder / "star_gen_heads.safetensors"
    from safetensors.numpy import load_file

    save_file(load_file(weights), weights, metadata={"format": "pt", "base_model": ""})
    config = json.loads((adapter_folder / "adapter_config.json").read_text())
    (adapter_folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": ""}))
    with pytest.raises(ValueError, match="does not say which model of the Hub it adapts.*--base-model"):
        plan_upload(adapter_folder)
    assert plan_upload(adapter_folder, base_model="me/base").metadata["base_model"] == "me/base"
    with pytest.raises(ValueError, match="got '/home/me/base'"):
        plan_upload(adapter_folder, base_model="/home/me/base")


def test_a_folder_of_this_machine_in_a_configuration_is_said(autoencoder_folder):
    config = json.loads((autoencoder_folder / "config.json").read_text())
    (autoencoder_folder / "config.json").write_text(json.dumps({**config, "_name_or_path": "/home/me/run"}))
    notes = plan_upload(autoencoder_folder).notes
    assert "config.json: '_name_or_path' names '/home/me/run', a folder of this machine." in notes


def test_a_kind_is_found_from_names_alone():
    index = {"_class_name": "StableAudioPipeline"}
    assert recognize(["model_index.json"], lambda name: index) == Kind("pipeline", "StableAudioPipeline")
    config = {"_class_name": "AutoencoderLafa"}
    assert recognize(["config.json"], lambda name: config) == Kind("lafa", "AutoencoderLafa")
