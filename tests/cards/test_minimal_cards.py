"""Cards of models of which nothing was measured: what the configuration says, and code that works."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from huggingface_hub import DatasetCard

from star_hf import AutoencoderLafa, audio_info, write_audio
from star_hf.cards import KINDS, CardRequest, kind_of, minimal_card, write_card
from star_hf.cards.kinds import HEADS_FILE
from star_hf.cards.weights import measure_weights
from star_hf.generation import adapters


@pytest.fixture
def folders(tiny_pipeline_folder, tiny_autoencoder, tiny_generator, tmp_path):
    """A folder of each kind of model."""
    made = {kind: tmp_path / kind for kind in ("autoencoder", "lafa", "generator", "adapter")}
    tiny_autoencoder.save_pretrained(made["autoencoder"])
    lafa = AutoencoderLafa.from_vae(
        tiny_autoencoder,
        encoder_hidden_size=16,
        encoder_layers=1,
        channel_patch=2,
        decoder_hidden_size=16,
        decoder_layers=1,
    )
    lafa.save_pretrained(made["lafa"])
    tiny_generator.save_pretrained(made["generator"])
    adapters.add_lora(tiny_generator, rank=2, target_modules=["q_proj"])
    adapters.save_adapter_folder(tiny_generator, made["adapter"], base="somebody/base")
    return {"pipeline": tiny_pipeline_folder, **made}


@pytest.fixture
def latents(tmp_path):
    info = {
        "latent_channels": 4,
        "frame_rate": 500.0,
        "sampling_rate": 8000,
        "hop_length": 16,
        "latents_mean": [0.0] * 4,
        "latents_std": [1.0] * 4,
        "num_rows": 1200,
        "num_frames": 900000,
        "vae_class": "AutoencoderStar",
        "vae_fingerprint": "0123456789abcdef" * 4,
        "source": "/somewhere/of/mine/sounds/train",
        "settings": {"num_shifts": 2, "seed": 0, "source": "/somewhere/of/mine"},
        "num_failures": 3,
        "posterior": "gaussian",
    }
    (tmp_path / "latents").mkdir()
    (tmp_path / "latents" / "latents.json").write_text(json.dumps(info))
    return tmp_path / "latents"


def _code(card) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", card.text, flags=re.DOTALL)
    return code


def test_kinds_are_told_apart(folders, latents, tmp_path):
    assert {kind: kind_of(folder) for kind, folder in folders.items()} == {kind: kind for kind in folders}
    assert kind_of(latents) == "latents" and set(KINDS) == {*folders, "latents"}
    assert HEADS_FILE == adapters.HEADS_FILE
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"architectures": ["BertModel"]}')
    with pytest.raises(ValueError, match="other: holds BertModel"):
        kind_of(tmp_path / "other")
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        kind_of(tmp_path / "nowhere")


def test_what_the_configuration_says(folders):
    cards = {kind: minimal_card(folder, kind, license="mit") for kind, folder in folders.items()}
    for kind, card in cards.items():
        tags = set(card.data.tags)
        features = kind in ("autoencoder", "lafa")
        assert card.data.pipeline_tag == ("feature-extraction" if features else "text-to-audio")
        assert card.data.library_name == "star_hf" and card.data.license == "mit"
        assert not {"diffusers", "transformers", "peft"} & tags
        assert card.data.eval_results is None
        assert card.text.count("**Not measured.**") == 1 and not re.search(r"(?<!\[)None", card.text)
        assert not re.search(r"\{\{|\}\}|\{%", card.text) and "How these numbers" not in card.text
    for kind in ("pipeline", "autoencoder"):
        assert "4 latent channels at 500 frames per second (hop 16)" in cards[kind].text
        assert "8 kHz stereo sound" in cards[kind].text
    assert "around a frozen AutoencoderStar" in cards["lafa"].text
    assert "Qwen3 decoder: 2 layers of width 32, 2 heads" in cards["generator"].text
    assert "LoRA of rank 2 (α 32) on q_proj" in cards["adapter"].text
    assert cards["adapter"].data.base_model == "somebody/base" and "lora" in cards["adapter"].data.tags
    assert "`somebody/base`" in cards["adapter"].text


def test_what_shaped_the_latents(folders, tiny_autoencoder):
    first = {"name": "isotropic", "beta": 1e-6, "warmup_steps": 0, "losses": {"kl": 1.0}}
    record = {"name": "target_kl", "target_kbps": 12.0, "target_weight": 10.0, "after": first}
    tiny_autoencoder.register_to_config(regularizer=record)
    tiny_autoencoder.save_pretrained(folders["autoencoder"])
    card = minimal_card(folders["autoencoder"], "autoencoder")
    told = "target kl, target kbps 12, target weight 10, after isotropic, β 1e-06 (loss weights: kl 1)"
    assert f"What shaped the latents: {told}." in card.text and "star" not in card.data.tags


def test_sizes_are_those_of_the_weights(folders, tiny_autoencoder, tiny_generator):
    parameters = sum(parameter.numel() for parameter in tiny_autoencoder.parameters())
    assert measure_weights(folders["autoencoder"]).parameters == parameters
    assert f"| {parameters / 1e3:.1f}K |" in minimal_card(folders["autoencoder"], "autoencoder").text
    weights = measure_weights(folders["adapter"])
    trained = sum(parameter.numel() for parameter in tiny_generator.parameters() if parameter.requires_grad)
    assert weights.parameters == trained and weights.dtypes == ("F32",)
    index = {"weight_map": {"a": "part-1.safetensors", "b": "part-1.safetensors"}}
    folder = folders["generator"]
    (folder / "model.safetensors").rename(folder / "part-1.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert measure_weights(folder).size_in_bytes == (folder / "part-1.safetensors").stat().st_size


def test_the_code_of_a_pipeline_runs(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = _code(minimal_card(folders["pipeline"], "pipeline", name=str(folders["pipeline"])))
    exec(code.replace('barking"', 'barking", audio_length_in_s=0.1, num_inference_steps=2'), {})
    assert (audio_info("out.wav").sampling_rate, audio_info("out.wav").num_frames) == (8000, 800)


@pytest.mark.parametrize("kind", ["autoencoder", "lafa"])
def test_the_code_of_an_autoencoder_runs(folders, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    write_audio(tmp_path / "in.wav", 0.1 * torch.randn(2, 8000), 8000)
    exec(_code(minimal_card(folders[kind], kind, name=str(folders[kind]))), {})
    assert audio_info("out.wav").channels == 2


def test_the_code_of_a_generator_and_an_adapter_runs(folders):
    for kind in ("generator", "adapter"):
        code = _code(minimal_card(folders[kind], kind, name=str(folders[kind])))
        if kind == "adapter":
            code = code.replace(")\n", f', base="{folders["generator"]}")\n')
        names: dict = {}
        exec(code, names)
        assert names["model"].config.latent_channels == 4
    hub = _code(minimal_card(folders["adapter"], "adapter", repo_id="me/adapter"))
    assert 'load_adapter_folder(snapshot_download("me/adapter"))' in hub
    compile(hub, "card", "exec")


def test_a_latent_dataset(latents):
    card = minimal_card(latents, "latents", repo_id="me/latents")
    assert isinstance(card, DatasetCard)
    assert card.data.size_categories == ["1K<n<10K"] and card.data.task_categories == ["text-to-audio"]
    assert card.data.configs == [{"config_name": "default", "data_files": "latents-*.parquet"}]
    for text in ("1,200 rows", "0.5 hours", 'open_latents("me/latents")', "`sounds`", "`num_shifts: 2`"):
        assert text in card.text, text
    assert "/somewhere" not in card.text, "nobody is told where the files lay"
    assert "Not stated for the latents" in card.text
    compile(_code(card), "card", "exec")


def test_a_latent_dataset_with_a_statement(latents):
    (latents / "about.md").write_text(
        "---\nlicense: cc0-1.0\n---\n{{ info.num_rows }} rows.\n\n## Training data\n\nRain.\n"
    )
    write_card(CardRequest(latents, latents / "README.md"))
    card = DatasetCard.load(latents / "README.md")
    assert card.data.license == "cc0-1.0" and card.data.pretty_name == "latents"
    assert "\n1200 rows.\n" in card.text and "## Where it comes from\n\nRain." in card.text


def test_a_pipeline_of_diffusers(folders, tmp_path):
    pipeline = tmp_path / "dit"
    components = {"vae": ["star_hf", "AutoencoderStar"], "tokenizer": ["transformers", "T5Tokenizer"]}
    components |= {"transformer": ["diffusers", "StableAudioDiTModel"], "text_encoder": [None, None]}
    (pipeline / "transformer").mkdir(parents=True)
    (pipeline / "transformer" / "config.json").write_text('{"_class_name": "StableAudioDiTModel"}')
    folders["autoencoder"].rename(pipeline / "vae")
    index = {"_class_name": "StableAudioPipeline", "_diffusers_version": "0.42.1", **components}
    (pipeline / "model_index.json").write_text(json.dumps(index))
    card = minimal_card(pipeline, "pipeline", repo_id="me/dit")
    assert "from diffusers import StableAudioPipeline\nfrom star_hf import write_audio" in _code(card)
    assert card.data.library_name == "star_hf" and "star" not in card.data.tags
    assert "| transformer | StableAudioDiTModel | – |" in card.text and "905M" not in card.text


def test_recordings_are_named(folders, tmp_path):
    folder = folders["autoencoder"]
    (folder / "ATTRIBUTION.csv").write_text("title,author,license\nRain,somebody,CC-BY\n")
    assert "| Rain | somebody | CC-BY |" in minimal_card(folder, "autoencoder").text


def test_the_embedded_checkpoint_is_loaded_by_name():
    from star_hf import embedded_checkpoint

    card = minimal_card(embedded_checkpoint(), "pipeline")
    assert "from_pretrained(embedded_checkpoint())" in _code(card)
    assert 'from_pretrained("me/mine")' in _code(
        minimal_card(embedded_checkpoint(), "pipeline", repo_id="me/mine")
    )


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("vae", "`kind` must be one of pipeline, autoencoder"),
        ("autoencoder", "config.json: is missing"),
        ("pipeline", "model_index.json: is missing"),
        ("latents", "latents.json: is missing"),
    ],
)
def test_what_is_not_there_is_named(tmp_path, kind, message):
    with pytest.raises(ValueError, match=message):
        minimal_card(tmp_path, kind)


def test_broken_files_are_named(folders):
    (folders["adapter"] / "adapter_config.json").write_text('{"peft_type": "IA3"}')
    with pytest.raises(ValueError, match=r"adapter_config\.json: is no LoRA \(it has no r, lora_alpha"):
        minimal_card(folders["adapter"], "adapter")
    folder: Path = folders["autoencoder"]
    (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"weights")
    with pytest.raises(ValueError, match=r"diffusion_pytorch_model\.safetensors: is not a safetensors file"):
        minimal_card(folder, "autoencoder")
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json: is not valid JSON"):
        minimal_card(folder, "autoencoder")
