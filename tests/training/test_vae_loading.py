"""An autoencoder is found where a run, a pipeline or the Hub keeps it, and nothing else passes for one."""

import json
import shutil

import pytest

from star_hf import AutoencoderStar
from star_hf.data import vae_fingerprint


def test_runs_and_pipelines_lead_to_their_autoencoder(exported_autoencoder, tmp_path):
    from tasks.vae_loading import load_vae

    shutil.copytree(exported_autoencoder, tmp_path / "run" / "export")
    shutil.copytree(exported_autoencoder, tmp_path / "pipeline" / "vae")
    shutil.copytree(tmp_path / "pipeline", tmp_path / "generator" / "export")
    loaded = [load_vae(str(tmp_path / name)) for name in ("run", "run/export", "pipeline", "generator")]
    expected = vae_fingerprint(AutoencoderStar.from_pretrained(exported_autoencoder))
    assert [vae_fingerprint(vae) for vae in loaded] == [expected] * 4
    assert not any(vae.training or vae.config["_name_or_path"] for vae in loaded)


def test_a_hub_name_may_end_in_a_folder(exported_autoencoder, monkeypatch):
    from tasks.vae_loading import load_vae

    asked = []

    def elsewhere(method):
        def load(source, subfolder=None, **options):
            if str(source) != str(
                exported_autoencoder
            ):  # from_pretrained asks for the configuration by itself
                asked.append((source, subfolder))
            return method(exported_autoencoder, **options)

        return load

    for name in ("load_config", "from_pretrained"):
        monkeypatch.setattr(AutoencoderStar, name, elsewhere(getattr(AutoencoderStar, name)))
    load_vae("someone/pipeline/vae")
    load_vae("someone/autoencoder")
    assert asked == [("someone/pipeline", "vae")] * 2 + [("someone/autoencoder", None)] * 2


def test_what_is_no_autoencoder_is_refused(exported_autoencoder, tmp_path):
    from tasks.vae_loading import load_vae

    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no model: it has no config.json"):
        load_vae(str(tmp_path / "empty"))
    with pytest.raises(ValueError, match="'nobody/nothing' cannot be loaded"):
        load_vae("nobody/nothing")
    for name in ("UNet2DModel", "os"):
        (tmp_path / "empty" / "config.json").write_text(json.dumps({"_class_name": name}))
        with pytest.raises(ValueError, match=f"is a {name}, neither AutoencoderStar nor an autoencoder"):
            load_vae(str(tmp_path / "empty"))
    shutil.copytree(exported_autoencoder, tmp_path / "weightless")
    next((tmp_path / "weightless").glob("*.safetensors")).unlink()
    with pytest.raises(ValueError, match="weightless' cannot be loaded"):
        load_vae(str(tmp_path / "weightless"))
