"""A Hub on loopback for the real huggingface_hub client, and folders to send to it."""

from __future__ import annotations

import shutil
import time
from functools import partial

import pytest
from hub_users import CARD, READ_TOKEN, STRANGER_TOKEN, TOKEN
from stand_in import StandIn, User
from stand_in_server import serve


@pytest.fixture
def hub():
    """An empty Hub with the users `me` (in the organization `team`, with a token that may only read, too) and
    `stranger`; nobody is logged in."""
    stand_in = StandIn()
    stand_in.add_user(TOKEN, User("me", organizations=("team",)))
    stand_in.add_user(READ_TOKEN, User("me", role="read", organizations=("team",)))
    stand_in.add_user(STRANGER_TOKEN, User("stranger"))
    with serve(stand_in):
        yield stand_in
    assert not stand_in.storage_tokens, "a token was sent to the storage"


def _short_sleep(sleep, seconds: float) -> None:
    sleep(min(seconds, 0.001))


@pytest.fixture
def client(hub, tmp_path, monkeypatch):
    """Point the huggingface_hub of this process at `hub`, with an empty home, and log `me` in.

    Its settings are constants, read from the environment when it is imported: they are set here one by one.
    The pauses between its attempts are left out. Returns a function that logs in with another token, or out.
    """
    import huggingface_hub.hf_api
    import transformers.utils.hub
    from huggingface_hub import constants
    from huggingface_hub.utils import _http, close_session

    home = tmp_path / "huggingface"
    home.mkdir()
    values = {
        "ENDPOINT": hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
    }
    for name, value in values.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", hub.url)
    monkeypatch.setattr(transformers.utils.hub, "_hf_api", None, raising=False)
    monkeypatch.setattr(time, "sleep", partial(_short_sleep, time.sleep))
    if hasattr(_http, "_HUB_ORIGINS"):
        monkeypatch.setattr(_http, "_HUB_ORIGINS", frozenset({_http._url_origin(hub.url)}))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)

    def log_in(token: str | None) -> None:
        (home / "token").unlink(missing_ok=True)
        if token is not None:
            (home / "token").write_text(token)

    log_in(TOKEN)
    close_session()
    yield log_in
    close_session()


@pytest.fixture
def pipeline_folder(tiny_pipeline_folder, tmp_path):
    """A `StarGenPipeline` as `save_pretrained` writes it, to be changed at will, and a card."""
    folder = shutil.copytree(tiny_pipeline_folder, tmp_path / "pipeline")
    (folder / "README.md").write_text(CARD)
    return folder


@pytest.fixture
def autoencoder_folder(tiny_pipeline_folder, tmp_path):
    """An `AutoencoderStar`."""
    return shutil.copytree(tiny_pipeline_folder / "vae", tmp_path / "autoencoder")


@pytest.fixture
def generator_folder(tiny_pipeline_folder, tmp_path):
    """A `StarGenModel`."""
    return shutil.copytree(tiny_pipeline_folder / "model", tmp_path / "generator")


@pytest.fixture
def latents_folder(tmp_path):
    """A latent dataset of three clips in two shards."""
    torch = pytest.importorskip("torch")
    from datasets import Features, Value

    from star_hf.data import LatentInfo, LatentShard

    folder = tmp_path / "latents"
    folder.mkdir()
    lengths = [[3, 4], [5]]
    for index, frames in enumerate(lengths):
        shard = LatentShard(2, Features({"text": Value("string")}))
        for length in frames:
            mean = torch.arange(2.0 * length).reshape(2, length)
            shard.add(mean, torch.ones(2, length), 0, {"text": f"a clip of {length} frames"})
        shard.write(folder / f"latents-{index:05d}.parquet")
    LatentInfo(
        latent_channels=2,
        frame_rate=500.0,
        sampling_rate=8000,
        hop_length=16,
        latents_mean=[0.0, 0.0],
        latents_std=[1.0, 1.0],
        num_rows=3,
        num_frames=12,
        vae_class="AutoencoderStar",
        vae_fingerprint="0" * 64,
        source="recordings",
    ).save(folder)
    return folder


@pytest.fixture
def adapter_folder(tiny_pipeline_folder, tmp_path):
    """LoRA on the tiny generator, which calls itself an adapter of `me/base`."""
    pytest.importorskip("peft")
    from star_hf.generation import StarGenModel, add_lora, save_adapter_folder

    model = StarGenModel.from_pretrained(tiny_pipeline_folder, subfolder="model")
    add_lora(model, rank=2)
    save_adapter_folder(model, tmp_path / "adapter", base="me/base")
    return tmp_path / "adapter"


@pytest.fixture
def stable_audio_folder(tiny_autoencoder, tiny_tokenizer, tmp_path):
    """A `StableAudioPipeline` around an `AutoencoderStar`, as train_dit.py exports it."""
    import copy

    from diffusers import (
        EDMDPMSolverMultistepScheduler,
        StableAudioDiTModel,
        StableAudioPipeline,
        StableAudioProjectionModel,
    )
    from transformers import T5Config, T5EncoderModel

    from star_hf.generation.dit import save_pipeline

    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.model_max_length = 8
    text_config = T5Config(vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    transformer = StableAudioDiTModel(
        sample_size=6,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=4,
        num_attention_heads=2,
        num_key_value_attention_heads=2,
        cross_attention_dim=4,
        cross_attention_input_dim=4,
        time_proj_dim=8,
        global_states_input_dim=8,
    )
    pipeline = StableAudioPipeline(
        vae=tiny_autoencoder,
        text_encoder=T5EncoderModel(text_config).eval(),
        projection_model=StableAudioProjectionModel(16, conditioning_dim=4, min_value=0, max_value=32),
        tokenizer=tokenizer,
        transformer=transformer.eval(),
        scheduler=EDMDPMSolverMultistepScheduler(solver_order=2, prediction_type="v_prediction"),
    )
    save_pipeline(pipeline, tmp_path / "stable_audio")
    return tmp_path / "stable_audio"
