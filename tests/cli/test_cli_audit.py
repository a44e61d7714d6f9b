"""`star-hf audit`: the page and its JSON."""

from __future__ import annotations

import importlib.metadata
import json

import pytest
import torch

from html_checks import check_page
from star_hf import write_audio


@pytest.fixture
def dataset(tmp_path):
    """Four labelled half-seconds, mono and stereo, and a file that is no audio."""
    folder = tmp_path / "clips"
    folder.mkdir()
    rows = ["file_name,label,fold"]
    for index in range(4):
        write_audio(folder / f"{index}.wav", 0.1 * torch.randn(1 + index % 2, 8000), 16000)
        rows.append(f"{index}.wav,{'ab'[index % 2]},{index // 2}")
    (folder / "broken.wav").write_bytes(b"no audio")
    (folder / "metadata.csv").write_text("\n".join([*rows, "broken.wav,a,0"]) + "\n")
    return folder


@pytest.fixture
def run_audit(run_cli, dataset, tiny_pipeline_folder, tmp_path):
    def run(*arguments, vaes=(tiny_pipeline_folder,)):
        return run_cli(
            "audit",
            *vaes,
            dataset,
            "-o",
            tmp_path / "report",
            "--decoded-clips",
            2,
            "--device",
            "cpu",
            *arguments,
        )

    return run


def test_the_page_contains_the_numbers_of_the_json(run_audit, tmp_path):
    result = run_audit()
    assert result.code == 0, result.stderr
    document = json.loads((tmp_path / "report" / "audit.json").read_text())
    page = (tmp_path / "report" / "index.html").read_text()
    ((name, report),) = document["autoencoders"].items()
    latents, decoder = report["latents"], report["decoder"]
    for value, form in (
        (latents["profile"]["rate_kbps"], ".2f"),
        (latents["profile"]["rank_correlation"], ".3f"),
        (latents["latent_correlation"], ".3f"),
        (latents["local_predictability"], ".3f"),
        (latents["spectral_decay"], ".2f"),
        (latents["temporal_difference_ratio"], ".3f"),
        (decoder["noise"]["stft"][0], ".3f"),
        (decoder["noise"]["mel"][0], ".3f"),
        (report["probe"]["accuracy"], ".1%"),
    ):
        assert f'<td class="number">{value:{form}}</td>' in page
    assert (document["seed"], document["settings"]["decoded_clips"]) == (0, 2)
    assert document["versions"]["torch"] == importlib.metadata.version("torch")
    assert report["num_clips"] == 4 and report["probe"]["num_folds"] == 2
    (bad,) = report["bad_files"]
    assert bad["name"].endswith("broken.wav") and "broken.wav" in page and "broken.wav" in result.stderr
    assert name == "pipeline" and "4 clips" in result.stdout


def test_the_page_stands_alone(run_audit, tmp_path):
    run_audit()
    page = (tmp_path / "report" / "index.html").read_text()
    check_page(page)
    assert page.count("<svg") >= 9
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["audit.json", "index.html"]


def test_several_autoencoders_side_by_side(run_audit, tiny_autoencoder, tiny_pipeline_folder, tmp_path):
    tiny_autoencoder.with_bottleneck("soft_normalization").save_pretrained(tmp_path / "soft")
    vaes = (f"ours={tiny_pipeline_folder}", tmp_path / "soft", f"again={tmp_path / 'soft'}")
    result = run_audit("--no-pictures", "--json", "--max-clips", 3, vaes=vaes)
    assert result.code == 0, result.stderr
    document = json.loads(result.stdout)
    assert list(document["autoencoders"]) == ["ours", "soft", "again"]
    page = (tmp_path / "report" / "index.html").read_text()
    assert "<th>ours</th><th>soft</th><th>again</th>" in page and "<svg" not in page
    kinds = [report["latents"]["profile"]["kind"] for report in document["autoencoders"].values()]
    assert kinds == ["KL", "variance", "variance"]
    first, second = (document["autoencoders"][name] for name in ("soft", "again"))
    assert first == second


def test_curves_of_different_kinds_share_a_page(run_audit, tiny_autoencoder, tiny_pipeline_folder, tmp_path):
    tiny_autoencoder.with_bottleneck("sigma", sigma=0.5).save_pretrained(tmp_path / "sigma")
    result = run_audit("--max-seconds", 0.3, vaes=(tiny_pipeline_folder, tmp_path / "sigma"))
    assert result.code == 0, result.stderr
    page = (tmp_path / "report" / "index.html").read_text()
    assert 'id="profile-KL-' in page and 'id="profile-capacity-' in page
    assert 'id="residual-0-' in page and 'id="residual-1-' in page


def test_an_interrupted_comparison_leaves_what_is_done(
    run_audit, tiny_pipeline_folder, tmp_path, monkeypatch
):
    from star_hf import audit

    audit_codec = audit.audit_codec

    def interrupted(*arguments, name, **options):
        if name == "second":
            raise KeyboardInterrupt
        return audit_codec(*arguments, name=name, **options)

    monkeypatch.setattr(audit, "audit_codec", interrupted)
    vaes = (f"first={tiny_pipeline_folder}", f"second={tiny_pipeline_folder}")
    result = run_audit("--no-pictures", vaes=vaes)
    assert result.code == 130
    document = json.loads((tmp_path / "report" / "audit.json").read_text())
    assert list(document["autoencoders"]) == ["first"]


@pytest.mark.parametrize(
    ("arguments", "vaes", "code", "message"),
    [
        ((), ("/nowhere/vae",), 1, "error: /nowhere/vae: "),
        (("--label-column", "kind"), (), 2, "'kind' is not among the columns"),
        (("--max-seconds", "0"), (), 2, "not greater than 0"),
        ((), ("a=x", "a=y"), 2, "two autoencoders have the name 'a'"),
        ((), ("=x",), 2, "is not a folder, a Hub id or name=folder"),
    ],
)
def test_errors(run_audit, tiny_pipeline_folder, tmp_path, arguments, vaes, code, message):
    result = run_audit(*arguments, vaes=vaes or (tiny_pipeline_folder,))
    assert result.code == code and message in result.stderr
    assert not (tmp_path / "report" / "index.html").exists()


def test_no_audio(run_cli, tiny_pipeline_folder, tmp_path):
    (tmp_path / "empty").mkdir()
    result = run_cli("audit", tiny_pipeline_folder, tmp_path / "empty", "-o", tmp_path / "report")
    assert result.code == 1 and result.stderr.startswith("error:")
