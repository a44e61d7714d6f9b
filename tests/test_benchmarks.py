"""The benchmark compares equals, and notices when they are not."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "decode.py"


@pytest.fixture(scope="module")
def decode():
    spec = importlib.util.spec_from_file_location("decode_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_it_measures_both_directions_and_precisions(decode, tmp_path, capsys):
    decode.main(["--tiny", "--seconds", "0.2", "--repeats", "2", "--json", str(tmp_path / "result.json")])
    document = json.loads((tmp_path / "result.json").read_text())

    rows = document["results"]
    assert [(row["direction"], row["dtype"]) for row in rows] == [
        ("decode", "float32"),
        ("encode", "float32"),
        ("decode", "bfloat16"),
        ("encode", "bfloat16"),
    ]
    assert all(row["ours_error"] < 1e-5 for row in rows if row["dtype"] == "float32")
    # bf16 has really been used
    assert all(row["ours_error"] > 1e-4 for row in rows if row["dtype"] == "bfloat16")
    assert all(row["ratio"] == pytest.approx(row["diffusers_seconds"] / row["ours_seconds"]) for row in rows)
    assert document["setting"]["threads"] == torch.get_num_threads()
    assert len(capsys.readouterr().out.splitlines()) == 6


def test_it_refuses_to_time_models_that_differ(decode):
    peer, ours = decode.make_pair(tiny=True, compiled=False)
    with torch.no_grad():
        ours.decoder.conv2.weight_g.mul_(1.01)
    ours.fold_weight_norm()
    with pytest.raises(ValueError, match="decode in float32 differs from diffusers by 1.0e-02"):
        decode.compare(peer, ours, decode.make_inputs(ours, 0.1), repeats=1)


def test_functions_take_turns(decode):
    order = []
    decode.time_in_turn([lambda: order.append("a"), lambda: order.append("b")], repeats=3)
    assert order == ["a", "b"] * 3


@pytest.mark.parametrize("option", [["--seconds", "0"], ["--repeats", "0"], ["--threads", "-1"]])
def test_wrong_options_are_refused(decode, option, capsys):
    with pytest.raises(SystemExit):
        decode.main(["--tiny", *option])
    assert "must be greater than 0" in capsys.readouterr().err
