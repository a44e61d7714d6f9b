"""Decode and encode are compared with diffusers' before they are timed."""

import json

import pytest
import torch


@pytest.fixture
def decode(load):
    return load("decode")


def test_decode_measures_both_directions_and_precisions(decode, tmp_path, capsys):
    options = ["--tiny", "--seconds", "0.2", "--repeats", "2", "--no-memory", "--devices", "cpu"]
    decode.main([*options, "--json", str(tmp_path / "result.json")])
    document = json.loads((tmp_path / "result.json").read_text())

    rows = document["measurements"]
    assert [(row["what"], row["precision"], row["target"]) for row in rows] == [
        ("decode, float32", "float32", "codec float32"),
        ("encode, float32", "float32", "codec float32"),
        ("decode, bfloat16", "bfloat16", "codec bfloat16"),
        ("encode, bfloat16", "bfloat16", "codec bfloat16"),
    ]
    assert all(row["error"] < 1e-5 for row in rows if row["precision"] == "float32")
    # bf16 has really been used
    assert all(row["error"] > 1e-4 for row in rows if row["precision"] == "bfloat16")
    for row in rows:
        assert row["ratio"] == pytest.approx(row["peer"] / row["ours"])
        rate = document["rates"][f"cpu {row['precision']}"]
        assert row["share"] == pytest.approx(row["flops"] / row["ours"] / rate)
    assert document["setting"]["threads"] == torch.get_num_threads()
    assert document["machine"]["versions"]["torch"] == torch.__version__
    assert len(capsys.readouterr().out.splitlines()) == 6


def test_decode_refuses_to_time_models_that_differ(decode, monkeypatch):
    peer, ours = decode.make_pair(tiny=True)
    with torch.no_grad():
        ours.decoder.conv2.weight_g.mul_(1.01)
    ours.fold_weight_norm()
    monkeypatch.setattr(decode, "time_in_turn", None)
    with pytest.raises(ValueError, match="decode in float32 differs from diffusers by 1.0e-02"):
        decode.compare(peer, ours, decode.make_inputs(ours, 0.1), 1, decode.CASES["cpu"])


def test_a_gpu_is_measured_as_it_is_and_compiled(decode):
    assert [(case.peer_name, case.target) for case in decode.CASES["cuda"]] == [
        ("diffusers' AutoencoderOobleck", "codec gpu"),
        ("diffusers' AutoencoderOobleck, compiled", "codec gpu compiled"),
    ]


def test_a_gpu_that_is_not_there_is_refused(decode, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="sees no GPU here"):
        decode.main(["--tiny", "--devices", "cuda"])


def test_memory_of_a_direction_is_above_the_weights(decode):
    peaks = [decode.peaks(side, True, seconds, "cpu", "float32") for side, seconds in ((1, 0.2), (1, 3.0))]
    for direction in decode.DIRECTIONS:
        # eight channels at 44.1 kHz, several maps of them
        assert peaks[1][direction] > 4 * 8 * 3.0 * 44100
        assert peaks[0][direction] < peaks[1][direction]


@pytest.mark.parametrize("option", [["--seconds", "0"], ["--repeats", "0"], ["--threads", "-1"]])
def test_decode_refuses_wrong_options(decode, option, capsys):
    with pytest.raises(SystemExit):
        decode.main(["--tiny", *option])
    assert "must be greater than 0" in capsys.readouterr().err
