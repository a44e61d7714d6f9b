"""Saving, loading and pushing an `AutoencoderStar`; what does not fit is refused by name."""

from __future__ import annotations

import json

import diffusers.utils.hub_utils as diffusers_hub
import pytest
import torch
from diffusers import AutoencoderOobleck
from huggingface_hub.errors import RepositoryNotFoundError
from safetensors.torch import load_file, save_file

from star_hf import AutoencoderStar

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(make_small, tmp_path):
    make_small("mamba", filterbank_bands=2).save_pretrained(tmp_path / "vae")
    return tmp_path / "vae"


def change_weights(folder, change):
    weights = load_file(folder / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS)


@torch.no_grad()
@pytest.mark.parametrize("context_type", ["none", "mamba", "transformer"])
@pytest.mark.parametrize("low_cpu_mem_usage", [True, False])
@pytest.mark.parametrize(
    "front_end",
    [
        {"filterbank_scales": [0.4, 0.2, 0.1, 0.05], "filterbank_exponent": 0.5},
        {"filterbank_scales": [0.4, 0.1], "filterbank_type": "noise_excited", "linear_shortcut": True},
    ],
    ids=["lapped", "noise"],
)
def test_a_saved_model_comes_back_equal(make_small, tmp_path, context_type, low_cpu_mem_usage, front_end):
    statistics = {"latents_mean": [0.1, -0.2, 0.3], "latents_std": [1.0, 2.0, 0.5]}
    autoencoder = make_small(context_type, filterbank_bands=4, **front_end, **statistics)
    # Neither the folded weights nor the filter bank are part of a checkpoint.
    autoencoder.fold_weight_norm().save_pretrained(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"config.json", WEIGHTS}
    assert not [name for name in load_file(tmp_path / WEIGHTS) if "filterbank" in name or "folded" in name]

    loaded = AutoencoderStar.from_pretrained(tmp_path, low_cpu_mem_usage=low_cpu_mem_usage)
    assert not loaded.training
    saved_config = {name: value for name, value in loaded.config.items() if not name.startswith("_")}
    assert saved_config == {
        name: value for name, value in autoencoder.config.items() if not name.startswith("_")
    }
    x = torch.randn(1, 2, 150)
    expected, actual = autoencoder(x), loaded(x)
    assert torch.equal(actual.latent_dist.parameters, expected.latent_dist.parameters)
    assert torch.equal(actual.sample, expected.sample)


def test_half_precision_subfolder_and_loading_info(folder):
    loaded, info = AutoencoderStar.from_pretrained(
        str(folder.parent), subfolder="vae", torch_dtype=torch.bfloat16, output_loading_info=True
    )
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    assert not any(info.values())
    assert torch.isfinite(loaded(torch.randn(1, 2, 50, dtype=torch.bfloat16)).sample).all()


def test_shards_come_back_equal(make_small, tmp_path):
    autoencoder = make_small()
    autoencoder.save_pretrained(tmp_path, max_shard_size="4KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    loaded = AutoencoderStar.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in autoencoder.state_dict().items())


def test_a_missing_key_is_named(folder):
    change_weights(folder, lambda weights: weights.pop("encoder.context.norm.weight"))
    with pytest.raises(ValueError, match=f"{folder}.*missing: encoder.context.norm.weight"):
        AutoencoderStar.from_pretrained(folder)


def test_an_extra_key_is_named(folder):
    change_weights(folder, lambda weights: weights.update({"decoder.extra.weight": torch.zeros(2)}))
    with pytest.raises(ValueError, match="unexpected: decoder.extra.weight"):
        AutoencoderStar.from_pretrained(folder)


def test_a_key_of_another_shape_is_named(folder):
    change_weights(folder, lambda weights: weights.update({"decoder.snake1.alpha": torch.zeros(1, 5, 1)}))
    with pytest.raises(
        ValueError, match=r"decoder.snake1.alpha has shape \(1, 5, 1\) instead of \(1, 4, 1\)"
    ):
        AutoencoderStar.from_pretrained(folder)


def test_another_configuration_than_the_checkpoints_is_refused(folder):
    with pytest.raises(ValueError, match="unexpected: .*decoder.context.in_proj.bias"):
        AutoencoderStar.from_pretrained(folder, context_type="none")


def test_an_oobleck_checkpoint_points_to_from_oobleck(small_config, tmp_path):
    config = {name: value for name, value in small_config.items() if "context" not in name}
    AutoencoderOobleck(**config).save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match="AutoencoderOobleck, not AutoencoderStar; use `AutoencoderStar.from_ooble"
    ):
        AutoencoderStar.from_pretrained(tmp_path)


@pytest.mark.parametrize("config", [{"_class_name": "AutoencoderKL"}, {"model_type": "qwen3"}])
def test_a_checkpoint_of_another_class_is_refused(folder, config):
    (folder / "config.json").write_text(json.dumps(config))
    name = config.get("_class_name")
    with pytest.raises(ValueError, match=f"{folder} holds a model of class {name}, not AutoencoderStar"):
        AutoencoderStar.from_pretrained(folder)


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(OSError, match=f"config.json.*{tmp_path}"):
        AutoencoderStar.from_pretrained(tmp_path)


def test_a_folder_without_weights_is_refused(folder):
    (folder / WEIGHTS).unlink()
    with pytest.raises(OSError, match=f"{WEIGHTS}.*{folder}"):
        AutoencoderStar.from_pretrained(folder)


def test_a_path_that_does_not_exist_is_refused_without_asking_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "diffusers.configuration_utils.hf_hub_download", lambda *_, **__: pytest.fail("asked")
    )
    with pytest.raises(FileNotFoundError, match="neither a folder nor a Hub repository"):
        AutoencoderStar.from_pretrained(tmp_path / "nowhere")


def test_truncated_weights_are_refused(folder):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])
    with pytest.raises(OSError, match=str(folder)):
        AutoencoderStar.from_pretrained(folder)


def test_pickled_weights_are_never_read(folder, monkeypatch):
    weights = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    torch.save(weights, folder / "diffusion_pytorch_model.bin")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("unpickled"))
    for use_safetensors in (True, None):
        with pytest.raises(OSError, match=WEIGHTS):
            AutoencoderStar.from_pretrained(folder, use_safetensors=use_safetensors)
    with pytest.raises(ValueError, match="`use_safetensors` must be True"):
        AutoencoderStar.from_pretrained(folder, use_safetensors=False)


def test_pickled_weights_are_never_written(make_small, tmp_path):
    with pytest.raises(ValueError, match="`safe_serialization` must be True"):
        make_small().save_pretrained(tmp_path, safe_serialization=False)
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_place_of_the_folder_is_refused(make_small, tmp_path):
    (tmp_path / "vae").write_text("not a folder")
    with pytest.raises(NotADirectoryError, match="`save_directory`.*vae is a file"):
        make_small().save_pretrained(tmp_path / "vae")


def test_push_to_hub_uploads_a_complete_checkpoint(make_small, monkeypatch, tmp_path):
    autoencoder, uploads = make_small("mamba"), []

    def create_repo(repo_id, **options):
        return type("RepoUrl", (), {"repo_id": f"someone/{repo_id}"})

    def no_model_card(repo_id, **options):
        raise RepositoryNotFoundError(
            repo_id, response=type("Response", (), {"headers": {}, "request": None})()
        )

    def upload_folder(repo_id, folder_path, **options):
        loaded = AutoencoderStar.from_pretrained(folder_path)
        files = {file.name for file in type(tmp_path)(folder_path).iterdir()}
        uploads.append((repo_id, options["commit_message"], files, loaded.state_dict()))
        return "done"

    monkeypatch.setattr(diffusers_hub, "create_repo", create_repo)
    monkeypatch.setattr(diffusers_hub, "upload_folder", upload_folder)
    monkeypatch.setattr(diffusers_hub.ModelCard, "load", no_model_card)
    assert autoencoder.push_to_hub("star-vae", commit_message="First") == "done"

    ((repo_id, message, files, state),) = uploads
    assert (repo_id, message) == ("someone/star-vae", "First")
    assert files == {"config.json", WEIGHTS, "README.md"}
    assert all(torch.equal(state[name], tensor) for name, tensor in autoencoder.state_dict().items())


def test_a_hub_id_is_loaded_through_the_hub(folder, monkeypatch):
    """The configuration and the weights are asked for by name, at the given revision."""
    asked = []

    def download(repo_id, filename=None, revision=None, **options):
        asked.append((repo_id, filename, revision))
        return str(folder / filename)

    monkeypatch.setattr("diffusers.configuration_utils.hf_hub_download", download)
    monkeypatch.setattr("diffusers.utils.hub_utils.hf_hub_download", download)
    monkeypatch.setattr("diffusers.utils.hub_utils.HF_HUB_OFFLINE", True, raising=False)
    loaded = AutoencoderStar.from_pretrained("someone/star-vae", revision="v2", local_files_only=True)
    assert {name for _, name, _ in asked} >= {"config.json", WEIGHTS}
    assert {(repo_id, revision) for repo_id, _, revision in asked} == {("someone/star-vae", "v2")}
    assert loaded.config.context_type == "mamba"
