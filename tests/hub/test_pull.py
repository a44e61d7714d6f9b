"""`from_pretrained` by names of the Hub, through the real client: branches, tokens, the cache, offline."""

from __future__ import annotations

import pytest
import torch
from hub_users import READ_TOKEN, STRANGER_TOKEN
from transformers import AutoConfig, AutoModel, AutoTokenizer

from star_hf import AutoencoderStar, StarGenPipeline, load_adapter_folder, resolve_model
from star_hf.data import open_latents
from star_hf.hub import HubError, push_folder

NAME = "me/thing"


def weights(model):
    return next(model.parameters())


#: What loads a part of a pipeline, and a tensor or value to know it by.
LOADERS = {
    "StarGenPipeline": lambda **options: weights(StarGenPipeline.from_pretrained(NAME, **options).model),
    "AutoencoderStar": lambda **options: weights(
        AutoencoderStar.from_pretrained(NAME, subfolder="vae", **options)
    ),
    "AutoModel": lambda **options: weights(AutoModel.from_pretrained(NAME, subfolder="model", **options)),
    "AutoConfig": lambda **options: torch.tensor(
        AutoConfig.from_pretrained(NAME, subfolder="model", **options).latent_channels
    ),
    "AutoTokenizer": lambda **options: torch.tensor(
        AutoTokenizer.from_pretrained(NAME, subfolder="tokenizer", **options)("rain").input_ids
    ),
    "resolve_model": lambda **options: weights(
        AutoencoderStar.from_pretrained(resolve_model(NAME, **options) / "vae")
    ),
}


@pytest.fixture
def pushed(hub, client, pipeline_folder):
    """A private pipeline, once on the main branch and once on `v1`, where its first weights are zero."""
    push_folder(pipeline_folder, NAME, private=True)
    pipeline = StarGenPipeline.from_pretrained(pipeline_folder)
    with torch.no_grad():
        for part in (pipeline.model, pipeline.vae):
            weights(part).zero_()
    pipeline.save_pretrained(pipeline_folder)
    push_folder(pipeline_folder, NAME, revision="v1")
    return hub


@pytest.mark.parametrize("loader", LOADERS)
def test_branches_tokens_and_the_cache(pushed, client, monkeypatch, loader):
    load = LOADERS[loader]
    commit = pushed.repository(NAME).refs["v1"]
    client(None)
    with pytest.raises(OSError):
        load()
    with pytest.raises(OSError):
        load(token=STRANGER_TOKEN)
    older = load(token=READ_TOKEN, revision="v1")
    assert torch.equal(load(token=READ_TOKEN, revision=commit), older)
    client(READ_TOKEN)
    newest = load()
    # The configuration and the tokenizer are the same in both.
    assert torch.equal(newest, older) == (loader in ("AutoConfig", "AutoTokenizer"))
    with pytest.raises(OSError, match=r"v2|Revision Not Found|no such revision"):
        load(revision="v2")

    client(None)
    pushed.requests.clear()
    assert torch.equal(load(local_files_only=True), newest)
    assert torch.equal(load(local_files_only=True, revision="v1"), older)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert torch.equal(load(), newest) and torch.equal(load(revision="v1"), older)
    assert not pushed.requests


@pytest.mark.parametrize("loader", LOADERS)
def test_offline_without_a_cache(pushed, monkeypatch, loader):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(OSError):
        LOADERS[loader]()


def test_the_pushed_pipeline_makes_the_same_sound(hub, client, pipeline_folder):
    push_folder(pipeline_folder, NAME)

    def generate(source):
        pipeline = StarGenPipeline.from_pretrained(source)
        pipeline.set_progress_bar_config(disable=True)
        noise = torch.Generator().manual_seed(0)
        return pipeline("sea waves", audio_length_in_s=0.05, num_inference_steps=2, generator=noise).audios

    assert torch.equal(generate(NAME), generate(pipeline_folder))


def test_a_download_that_breaks_off_goes_on_where_it_was(hub, client, pipeline_folder, monkeypatch):
    push_folder(pipeline_folder, NAME)
    # what the client writes at once; the 10 MB of real life are more than these files have
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    with hub.fault(r"GET /files/", after_bytes=50_000, times=2):
        folder = resolve_model(NAME)
    for path in ("model/model.safetensors", "vae/diffusion_pytorch_model.safetensors"):
        assert (folder / path).read_bytes() == (pipeline_folder / path).read_bytes()
    assert hub.ranges, "the rest was asked for, not the whole again"


def test_files_that_have_arrived_are_not_fetched_again(hub, client, pipeline_folder):
    push_folder(pipeline_folder, NAME)
    with (
        hub.fault(r"GET /files/", after_requests=1),
        pytest.raises(HubError, match="the connection to .* broke"),
    ):
        resolve_model(NAME)
    arrived = hub.count("GET .*/resolve/")
    hub.requests.clear()
    resolve_model(NAME)
    assert hub.count("GET /files/") == 1 and hub.count("GET .*/resolve/") + arrived <= 8


def test_a_latent_dataset(hub, client, latents_folder):
    push_folder(latents_folder, "team/latents", private=True)
    rows, info = open_latents("team/latents")
    assert info.num_rows == 3 and rows["num_frames"] == [3, 4, 5]
    client(None)
    with pytest.raises(ValueError, match="neither a folder nor a dataset that the Hub gives"):
        open_latents("team/others")


def test_an_adapter_and_its_base(hub, client, generator_folder, adapter_folder):
    push_folder(generator_folder, "me/base", license="mit")
    push_folder(adapter_folder, "me/adapter", license="mit")
    model = load_adapter_folder(resolve_model("me/adapter"))
    expected = load_adapter_folder(adapter_folder, base=generator_folder)
    assert torch.equal(weights(model), weights(expected))


def test_a_gated_model(hub, client, pipeline_folder):
    push_folder(pipeline_folder, NAME)
    hub.repository(NAME).gated = True
    client(STRANGER_TOKEN)
    with pytest.raises(HubError, match=f"access to it is granted on request: ask on {hub.url}/me/thing"):
        resolve_model(NAME)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {},
            "me/nothing: no such folder here, and from the Hub: me/nothing does not exist, or it is private",
        ),
        (
            {"local_files_only": True},
            "not all of its files are in the cache, and fetching them is switched off",
        ),
    ],
)
def test_a_name_that_nobody_has(hub, client, options, message):
    with pytest.raises(HubError, match=message):
        resolve_model("me/nothing", **options)


def test_a_hub_out_of_reach(hub, client, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set and the files are not in the cache"):
        resolve_model("me/nothing")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with hub.fault("."), pytest.raises(HubError, match=f"the connection to {hub.url} broke off"):
        resolve_model("me/nothing")
    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(HubError, match="http://127.0.0.1:9 cannot be reached .*is there a network"):
            resolve_model("me/nothing")
    with hub.fault(".", status=502), pytest.raises(HubError, match="the Hub is out of order"):
        resolve_model("me/nothing")


@pytest.mark.parametrize("path", ["./nowhere", "../nowhere", "/nowhere/at/all", "~/nowhere", "."])
def test_a_path_is_not_taken_for_a_name_of_the_hub(hub, client, tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    message = "holds no model" if path == "." else "this folder does not exist"
    with pytest.raises(FileNotFoundError, match=message):
        resolve_model(path)
    assert not hub.requests


def test_a_stable_audio_pipeline(hub, client, stable_audio_folder):
    """diffusers' own download refuses components of other libraries: it loads from the fetched folder."""
    from diffusers import StableAudioPipeline

    push_folder(stable_audio_folder, NAME, license="mit")
    with pytest.raises(ValueError, match="star_hf"):
        StableAudioPipeline.from_pretrained(NAME)

    def generate(folder):
        pipeline = StableAudioPipeline.from_pretrained(folder)
        pipeline.set_progress_bar_config(disable=True)
        noise = torch.Generator().manual_seed(0)
        return pipeline("sea waves", num_inference_steps=2, generator=noise).audios

    assert torch.equal(generate(resolve_model(NAME)), generate(stable_audio_folder))
