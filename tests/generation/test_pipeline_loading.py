"""StarGenPipeline: folders, Hub repositories, and diffusers' own loader."""

import json
import shutil

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, DiffusionPipeline, UNet2DModel
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import load_file

from star_hf.generation import StarGenPipeline, pipeline_loading

CALL = {"prompt": ["a dog barking", "sea waves"], "audio_length_in_s": 0.05, "num_inference_steps": 2}


def generate(pipe):
    pipe.set_progress_bar_config(disable=True)
    return pipe(generator=torch.Generator().manual_seed(0), **CALL).audios


@pytest.fixture
def hub(monkeypatch, tmp_path, tiny_pipeline_folder):
    """A Hub with one repository, `me/star-gen`, in which someone has left a pickle and code."""
    repository, cache = tmp_path / "repository", tmp_path / "cache"
    shutil.copytree(tiny_pipeline_folder, repository)
    (repository / "model" / "pytorch_model.bin").write_bytes(b"pickle")
    (repository / "vae" / "star_hf.py").write_text("raise RuntimeError('code from the Hub')")

    def snapshot_download(repo_id, allow_patterns=None, ignore_patterns=None, **options):
        assert repo_id == "me/star-gen" and set(options) <= {"revision", "force_download"}
        files = [str(path.relative_to(repository)) for path in repository.rglob("*") if path.is_file()]
        for name in filter_repo_objects(
            files, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns
        ):
            (cache / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(repository / name, cache / name)
        return str(cache)

    monkeypatch.setattr(pipeline_loading, "snapshot_download", snapshot_download)
    return cache


def test_folder_round_trip(tiny_pipeline_folder, tmp_path):
    pipe = StarGenPipeline.from_pretrained(tiny_pipeline_folder)
    expected = generate(pipe)
    pipe.save_pretrained(tmp_path / "again")
    assert torch.equal(generate(StarGenPipeline.from_pretrained(tmp_path / "again")), expected)


def test_index_names_our_classes_shortly(tiny_pipeline_folder):
    index = json.loads((tiny_pipeline_folder / "model_index.json").read_text())
    assert index["_class_name"] == "StarGenPipeline"
    assert index["vae"] == ["star_hf", "AutoencoderStar"] and index["model"] == ["star_hf", "StarGenModel"]
    assert index["scheduler"] == ["diffusers", "FlowMatchEulerDiscreteScheduler"]
    assert index["tokenizer"][0] == "transformers"


def test_only_safetensors_are_written(tiny_pipeline_folder):
    suffixes = {path.suffix for path in tiny_pipeline_folder.rglob("*") if path.is_file()}
    assert suffixes == {".safetensors", ".json", ".py"}


def test_hub_id(hub, tiny_pipeline_folder):
    expected = generate(StarGenPipeline.from_pretrained(tiny_pipeline_folder))
    assert torch.equal(generate(StarGenPipeline.from_pretrained("me/star-gen")), expected)
    names = {path.name for path in hub.rglob("*") if path.is_file()}
    assert not {name for name in names if name.endswith((".bin", ".py"))}


def test_hub_id_with_a_component_of_ones_own(hub, tiny_autoencoder):
    pipe = StarGenPipeline.from_pretrained("me/star-gen", vae=tiny_autoencoder, revision="main")
    assert pipe.vae is tiny_autoencoder and not (hub / "vae").exists()


def test_half_precision_folder(tiny_pipeline_folder):
    pipe = StarGenPipeline.from_pretrained(tiny_pipeline_folder, dtype=torch.bfloat16)
    assert pipe.model.dtype == pipe.vae.dtype == torch.bfloat16
    assert generate(pipe).isfinite().all()


def test_diffusers_own_loader(tiny_pipeline_folder, tmp_path, monkeypatch):
    """It finds the class through the `pipeline.py` that `save_pretrained` writes, and only so."""
    monkeypatch.setattr("diffusers.utils.dynamic_modules_utils.HF_MODULES_CACHE", str(tmp_path))
    pipe = DiffusionPipeline.from_pretrained(
        tiny_pipeline_folder, custom_pipeline="pipeline", trust_remote_code=True
    )
    assert type(pipe) is StarGenPipeline
    assert torch.equal(generate(pipe), generate(StarGenPipeline.from_pretrained(tiny_pipeline_folder)))
    with pytest.raises(AttributeError, match="StarGenPipeline"):
        DiffusionPipeline.from_pretrained(tiny_pipeline_folder)


def test_other_pipelines_are_refused(tmp_path):
    unet = UNet2DModel(
        block_out_channels=(4,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        norm_num_groups=2,
    )
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="DDPMPipeline, not a StarGenPipeline"):
        StarGenPipeline.from_pretrained(tmp_path)


def test_folder_without_a_checkpoint(tmp_path):
    with pytest.raises(OSError, match="model_index.json"):
        StarGenPipeline.from_pretrained(tmp_path)


def test_pickles_are_refused(tiny_pipeline_folder, tmp_path):
    with pytest.raises(ValueError, match="never pickled"):
        StarGenPipeline.from_pretrained(tiny_pipeline_folder, use_safetensors=False)
    pipe = StarGenPipeline.from_pretrained(tiny_pipeline_folder)
    with pytest.raises(ValueError, match="never pickled"):
        pipe.save_pretrained(tmp_path, safe_serialization=False)


@pytest.mark.parametrize(
    ("component", "safe", "pickled"),
    [
        ("model", "model.safetensors", "pytorch_model.bin"),
        ("vae", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"),
    ],
)
def test_folder_with_pickled_weights_is_refused(pipe, tmp_path, component, safe, pickled):
    """Also where the VAE is diffusers' own, which would fall back to them."""
    pipe.save_pretrained(tmp_path)
    weights = tmp_path / component / safe
    torch.save(load_file(weights), tmp_path / component / pickled)
    weights.unlink()
    with pytest.raises(OSError, match="safetensors"):
        StarGenPipeline.from_pretrained(tmp_path)
