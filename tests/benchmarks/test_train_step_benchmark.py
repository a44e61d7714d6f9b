"""Both sides of the training benchmark compute the same, and it notices when they do not."""

import json

import pytest
import torch


@pytest.fixture
def train_step(load):
    return load("train_step")


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

    shared = [(row["what"], row["peer_name"], row["ratio"]) for row in document["measurements"]]
    round_of_steps = f"training, {both}, 1 × 4096 samples"
    assert shared == [
        (round_of_steps, "plain PyTorch", rows[2]["ratio"]),
        (f"{round_of_steps}, gradient checkpointing of ours alone", "plain PyTorch", rows[5]["ratio"]),
        ("training, generator, 2 × 4096 samples", "plain PyTorch", rows[6]["ratio"]),
        ("training, generator, 2 × 4096 samples, gradient checkpointing", "plain PyTorch", rows[7]["ratio"]),
    ]


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
