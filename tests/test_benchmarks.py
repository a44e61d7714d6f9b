"""The benchmarks compare equals, and notice when they are not."""

import importlib
import json
import mmap
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "benchmarks"


def load(name, monkeypatch):
    # their shared modules are found as they are when a script runs
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module(name)


@pytest.fixture
def decode(monkeypatch):
    return load("decode", monkeypatch)


@pytest.fixture
def train_step(monkeypatch):
    return load("train_step", monkeypatch)


def test_decode_measures_both_directions_and_precisions(decode, tmp_path, capsys):
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


def test_decode_refuses_to_time_models_that_differ(decode):
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
def test_decode_refuses_wrong_options(decode, option, capsys):
    with pytest.raises(SystemExit):
        decode.main(["--tiny", *option])
    assert "must be greater than 0" in capsys.readouterr().err


TINY_STEP = ["--size", "tiny", "--crop", "4096", "--repeats", "1"]


def test_train_step_measures_each_step_with_and_without_checkpointing(train_step, tmp_path, capsys):
    options = ["--generator-batch", "2", "--no-memory", "--json", str(tmp_path / "result.json")]
    train_step.main([*TINY_STEP, *options])
    document = json.loads((tmp_path / "result.json").read_text())
    rows = document["results"]
    both = "autoencoder + discriminator"
    assert [(row["steps"], row["batch"], row["checkpointing"]) for row in rows] == [
        ("autoencoder", 1, "neither"),
        ("discriminator", 1, "neither"),
        (both, 1, "neither"),
        ("autoencoder", 1, "ours alone"),
        ("discriminator", 1, "ours alone"),
        (both, 1, "ours alone"),
        ("generator", 2, "neither"),
        ("generator", 2, "both"),
    ]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["plain_seconds"] / row["our_seconds"])
        audio = (2 if row["steps"] == both else 1) * row["batch"] * 4096 / 44100
        assert row["our_rate"] == pytest.approx(audio / row["our_seconds"])
    assert rows[2]["our_seconds"] == pytest.approx(rows[0]["our_seconds"] + rows[1]["our_seconds"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 2 * 3 + 2 + len(rows)
    assert lines[-1].split()[:3] == ["generator", "2", "both"]


def test_every_choice_reaches_the_sides(train_step, monkeypatch):
    settings = {}

    def remember(recipe, setting, repeats, peaks):
        settings[recipe] = setting
        return []

    monkeypatch.setattr(train_step, "measure", remember)
    options = ["--precision", "bfloat16", "--careful", "--batch", "3", "--no-memory"]
    train_step.main([*TINY_STEP, *options])
    for recipe, batch in (("autoencoder", 3), ("generator", 8)):
        assert settings[recipe] == train_step.Setting("tiny", batch, 4096, "bfloat16", "cpu", careful=True)


@pytest.mark.parametrize("careful", [False, True])
@pytest.mark.parametrize("recipe", ["autoencoder", "generator"])
def test_both_sides_compute_the_same_in_float64(train_step, recipe, careful):
    setting = train_step.Setting("tiny", 2, 4096, "float32", "cpu", careful)
    batch = train_step.make_batch(setting).map(lambda x: x.double() if x.is_floating_point() else x)
    sides = {name: side(setting) for name, side in train_step.SIDES[recipe].items()}
    for side in sides.values():
        side.to(torch.float64)
    for step in sides["ours"].steps:
        ours, plain = (train_step.values(sides[name], step, batch) for name in ("ours", "plain"))
        for what in ("loss", "gradient"):
            error = torch.linalg.vector_norm(ours[what] - plain[what]) / torch.linalg.vector_norm(plain[what])
            # The flow-matching loss is computed in float32.
            assert error < (1e-7 if recipe == "autoencoder" else 1e-6)


@pytest.mark.parametrize(
    ("recipe", "changed"),
    [("autoencoder", "autoencoder"), ("autoencoder", "discriminator"), ("generator", "generator")],
)
def test_train_step_refuses_to_time_models_that_differ(train_step, recipe, changed):
    setting = train_step.Setting("tiny", 1, 4096, "float32", "cpu")
    sides = {name: side(setting) for name, side in train_step.SIDES[recipe].items()}
    with torch.no_grad():
        for parameter in sides["ours"].modules[changed].parameters():
            parameter.mul_(1.1)
    with pytest.raises(ValueError, match=f"the {recipe}'s loss differs from the plain one's by .* allowed"):
        train_step.compare(sides, train_step.make_batch(setting))


def test_train_step_refuses_to_time_what_rounds_too_much(train_step):
    class Rounded(train_step.SIDES["generator"]["ours"]):
        def generator_loss(self, batch):
            loss = super().generator_loss(batch)
            return loss if batch.noise.dtype == torch.float64 else 1.001 * loss

    setting = train_step.Setting("tiny", 1, 4096, "float32", "cpu")
    sides = {"plain": train_step.SIDES["generator"]["plain"](setting), "ours": Rounded(setting)}
    with pytest.raises(
        ValueError, match="the generator's loss is off by 1.0e-03 .* in float32, the plain one's"
    ):
        train_step.compare(sides, train_step.make_batch(setting))


def test_a_careful_plain_side_leaves_the_other_module_alone(train_step):
    for careful, expected in ((True, False), (False, True)):
        setting = train_step.Setting("tiny", 1, 4096, "float32", "cpu", careful)
        plain_side = train_step.SIDES["autoencoder"]["plain"](setting)
        plain_side.loss("discriminator", train_step.make_batch(setting)).backward()
        touched = any(p.grad is not None for p in plain_side.modules["autoencoder"].parameters())
        assert touched == expected


def test_our_steps_compute_no_gradient_in_vain(train_step):
    setting = train_step.Setting("tiny", 1, 4096, "float32", "cpu")
    ours, batch = train_step.SIDES["autoencoder"]["ours"](setting), train_step.make_batch(setting)
    for step, other in (("autoencoder", "discriminator"), ("discriminator", "autoencoder")):
        ours.loss(step, batch).backward()
        assert all(p.grad is not None for p in ours.modules[step].parameters())
        assert all(p.grad is None for p in ours.modules[other].parameters())
        ours.modules[step].zero_grad()


def test_peak_memory_sees_what_is_freed_again(train_step):
    device = torch.device("cpu")
    with train_step.peak_memory(device) as before:
        pass
    with train_step.peak_memory(device) as peak:
        # straight from the system: the allocator may still hold what earlier tests gave back
        with mmap.mmap(-1, 200 << 20) as block:
            values = torch.frombuffer(block, dtype=torch.uint8)
            for _ in range(20):
                values.add_(1)
            del values
    assert 150 << 20 < peak[0] - before[0] < 250 << 20


@pytest.mark.slow
def test_memory_is_measured_in_a_process_of_its_own(train_step):
    setting = train_step.Setting("tiny", 1, 4096, "float32", "cpu")
    peaks = train_step.memory_in_own_process("autoencoder", "ours", True, setting)
    assert len(peaks) == 2
    assert all(0 < peak < 1 << 30 for peak in peaks)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--crop", "5000"], "--crop must be a multiple of 2048, got 5000"),
        (["--batch", "0"], "--batch must be greater than 0, got 0"),
        (["--generator-batch", "0"], "--generator-batch must be greater than 0, got 0"),
    ],
)
def test_train_step_refuses_wrong_options(train_step, option, message, capsys):
    with pytest.raises(SystemExit):
        train_step.main(["--size", "tiny", *option])
    assert message in capsys.readouterr().err
