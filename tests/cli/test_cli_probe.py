"""`star-hf probe`: one small generator on the latents of each autoencoder."""

from __future__ import annotations

import json

import pytest
import torch

from html_checks import check_page
from star_hf import AutoencoderStar, write_audio

TINY = ("--budgets", "2,4", "--generated-clips", 4, "--kept-clips", 1, "--batch-size", 4)
SMALL = ("--hidden-size", 16, "--layers", 1, "--heads", 1, "--held-out", 0.34, "--device", "cpu")


@pytest.fixture
def dataset(tmp_path):
    """Nine captioned half-seconds and a file that is no audio."""
    folder = tmp_path / "clips"
    folder.mkdir()
    time = torch.arange(4400) / 8000
    rows = ["file_name,text,label"]
    for index in range(9):
        tone = torch.sin(1000 * (1 + index % 2) * time)
        write_audio(folder / f"{index}.wav", (0.3 * tone + 0.02 * torch.randn(4400))[None], 8000)
        rows.append(f"{index}.wav,{('a low tone', 'a high tone')[index % 2]},{'lh'[index % 2]}")
    (folder / "broken.wav").write_bytes(b"no audio")
    (folder / "metadata.csv").write_text("\n".join([*rows, "broken.wav,a tone,l"]) + "\n")
    return folder


@pytest.fixture
def bare_dataset(dataset):
    """The same files without captions and labels."""
    (dataset / "metadata.csv").unlink()
    (dataset / "broken.wav").unlink()
    return dataset


@pytest.fixture
def vaes(tmp_path):
    """Two autoencoders at 8 kHz with 20 frames a second, of 4 and 6 latent channels."""
    folders = []
    for channels in (4, 6):
        torch.manual_seed(channels)
        autoencoder = AutoencoderStar(
            encoder_hidden_size=4,
            downsampling_ratios=[20, 20],
            channel_multiples=[1, 2],
            decoder_channels=4,
            decoder_input_channels=channels,
            audio_channels=1,
            sampling_rate=8000,
            context_type="none",
        )
        autoencoder.eval().save_pretrained(tmp_path / f"vae{channels}")
        folders.append(tmp_path / f"vae{channels}")
    return folders


@pytest.fixture
def report(tmp_path):
    return tmp_path / "report"


@pytest.mark.slow
def test_an_interrupted_comparison_goes_on(run_cli, dataset, vaes, report, monkeypatch):
    from star_hf import probe
    from star_hf.probe import codec_probe

    trained = []
    probe_codec, train = probe.probe_codec, codec_probe.train

    def interrupted(codec, name, *arguments, **options):
        if name == "vae6":
            raise KeyboardInterrupt
        return probe_codec(codec, name, *arguments, **options)

    def counted(network, encoded, clips, captions, settings, seed, *rest):
        trained.append((encoded.channels, seed))
        return train(network, encoded, clips, captions, settings, seed, *rest)

    monkeypatch.setattr(codec_probe, "train", counted)
    call = ("probe", f"ours={vaes[0]}", vaes[1], dataset, "-o", report, *TINY, *SMALL)
    with monkeypatch.context() as patch:
        patch.setattr(probe, "probe_codec", interrupted)
        result = run_cli(*call)
    assert result.code == 130 and "broken.wav" in result.stderr
    document = json.loads((report / "probe.json").read_text())
    assert list(document["autoencoders"]) == ["ours"] and trained == [(4, 0), (4, 1)]

    result = run_cli(*call)
    assert result.code == 0, result.stderr
    assert trained == [(4, 0), (4, 1), (6, 0), (6, 1)]
    assert "ours: star_gen-seed0, star_gen-seed1 is there already" in result.stderr
    assert "STAR-Gen, 4 steps, 2 seeds: best first" in result.stdout
    assert "Do fewer steps order 2 autoencoders as 4 steps do?" in result.stdout
    assert "cannot be told from 2 autoencoders" in result.stdout
    document = json.loads((report / "probe.json").read_text())
    ours = document["autoencoders"]["ours"]["generators"]["star_gen"]["runs"]
    assert [(run["seed"], run["budget"]) for run in ours] == [(0, 2), (0, 4), (1, 2), (1, 4)]
    clips = [run["audio"] for run in ours if run["budget"] == 4]
    page = (report / "index.html").read_text()
    assert clips[0][0] in page and all((report / file).is_file() for own in clips for file in own)

    result = run_cli(*call, "--json")
    assert result.code == 0 and len(trained) == 4
    printed = json.loads(result.stdout)
    assert {**document, "page": str(report / "index.html"), "time": printed["time"]} == printed


def test_one_autoencoder_without_captions(run_cli, bare_dataset, vaes, report):
    call = ("probe", vaes[0], bare_dataset, "-o", report, *SMALL, "--budgets", 1, "--seeds", 3)
    result = run_cli(*call)
    assert result.code == 1 and "has no captions" in result.stderr
    assert "--text-column" in result.stderr and "file_name" in result.stderr and not report.exists()
    result = run_cli(*call, "--without-text", "--generated-clips", 2, "--kept-clips", 0)
    assert result.code == 0, result.stderr
    assert "There is one autoencoder: nothing to rank." in result.stdout and "vae4" in result.stdout
    check_page((report / "index.html").read_text())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--budgets", "2,many"), 2, "'2,many' must be whole numbers with commas"),
        (("--budgets", "4,2"), 1, "`budgets` must be ascending"),
        (("--seeds", "0,0"), 1, "`seeds` must be different"),
        (("--generators", "star-gen,gan"), 1, "`generators` must be one or more of star_gen, dit"),
        (("--held-out", "1"), 1, "`held_out_fraction` must be"),
        (("--text-column", "caption"), 1, "`text_column` 'caption' is not in the data set"),
        (("--max-seconds", "0"), 2, "not greater than 0"),
    ],
)
def test_wrong_options(run_cli, dataset, vaes, report, arguments, code, message):
    result = run_cli("probe", vaes[0], dataset, "-o", report, *arguments)
    assert result.code == code and message in result.stderr and not report.exists()


def test_what_is_not_there(run_cli, dataset, vaes, report, tmp_path):
    result = run_cli("probe", tmp_path / "nowhere", dataset, "-o", report)
    assert result.code == 1 and "nowhere" in result.stderr
    result = run_cli("probe", vaes[0], tmp_path / "nowhere", "-o", report)
    assert result.code == 1 and "nowhere" in result.stderr
    result = run_cli("probe", vaes[0], f"vae4={vaes[1]}", dataset, "-o", report)
    assert result.code == 2 and "two autoencoders have the name 'vae4'" in result.stderr
    result = run_cli("probe", vaes[0], dataset, "-o", dataset / "0.wav")
    assert result.code == 2 and "0.wav' is a file" in result.stderr
    assert not report.exists()
