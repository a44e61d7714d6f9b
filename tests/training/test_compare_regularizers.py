"""The comparison end to end on tiny models, its page, and what it says of a change."""

import csv
import importlib
import json
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

import compare_regularizers
from comparison import page, recipes, verdict
from comparison.metrics import METRICS
from study import execution, runs

DOCS = Path(__file__).parents[2] / "docs" / "regularizers"

PHASE1 = """
output_dir: runs/regularizers/phase1
max_steps: 3
log_every: 1
validate_every: 100
save_every: 2
threads: 1
report_to: []
model:
  encoder_hidden_size: 4
  decoder_channels: 4
  downsampling_ratios: [4, 8]
  channel_multiples: [1, 2]
  decoder_input_channels: 8
  sampling_rate: 8000
  context_type: none
data:
  source: nowhere
  batch_size: 2
  validation_fraction: 0.25
  validation_key: group
  crops: {num_samples: 2048}
losses: {stft: 1.0, waveform: 1.0, kl: 1.0}
stft: {fft_sizes: [256, 64]}
optimizer: {learning_rate: 1e-3}
"""
METHODS = {
    "control": """
base: phase1.yaml
output_dir: runs/regularizers/control
init_from: runs/regularizers/phase1
model: null
max_steps: 3
""",
    "star": """
base: control.yaml
output_dir: runs/regularizers/star
regularizer: {name: star, beta_min: 0.1, beta_max: 2.0}
optimizer: {learning_rate: 0.05}
losses: {waveform: 0.0}
""",
    "target_kl": """
base: control.yaml
output_dir: runs/regularizers/target_kl
regularizer: {name: target_kl, target_kbps: 2.0}
""",
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Twelve clips of noise and of tones, two of each recording."""
    folder = tmp_path_factory.mktemp("clips")
    random = np.random.default_rng(0)
    rows = []
    for index in range(12):
        label = ("noise", "tone")[index % 2]
        time_axis = np.arange(3200) / 8000
        tone = np.sin(2 * np.pi * 300 * (1 + index) * time_axis)
        samples = 0.2 * (random.standard_normal(3200) if label == "noise" else tone)
        soundfile.write(folder / f"{index}.wav", samples, 8000)
        rows.append({"file_name": f"{index}.wav", "text": label, "label": label, "group": index // 2})
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.fixture(scope="module")
def recipe_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipes")
    (folder / "phase1.yaml").write_text(PHASE1)
    for name, text in METHODS.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def train_in_this_process(self, runs):
    """The scripts without the seconds that processes of their own take to start."""
    from accelerate.state import AcceleratorState, GradientState

    for run in runs:
        run.check_plan()
        if not run.is_finished():
            run.begin()
            importlib.import_module(run.script.removesuffix(".py")).main(run.argv)
            AcceleratorState._reset_state(reset_partial_state=True)
            GradientState._reset_state()
    return {}


@pytest.fixture
def in_this_process(monkeypatch):
    monkeypatch.setattr(execution.Trainings, "train", train_in_this_process)


@pytest.fixture(scope="module")
def options(clips, recipe_folder, tmp_path_factory):
    """Command line of the comparison on the clips; later options win."""
    folder = tmp_path_factory.mktemp("comparison")
    own = {
        "recipes": recipe_folder,
        "output_dir": folder / "runs",
        "docs": folder / "docs" / "regularizers",
        "data": clips,
    }

    def build(*more):
        return [text for key, value in own.items() for text in (f"--{key}", str(value))] + list(more)

    build.folder = folder
    return build


@pytest.fixture(scope="module")
def compared(options):
    """The folder of the docs after control and star were trained and measured."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execution.Trainings, "train", train_in_this_process)
        compare_regularizers.main(options("--only", "star"))
    return options.folder / "docs" / "regularizers"


def test_methods_are_trained_from_one_phase1_and_measured(compared, options):
    document = json.loads((compared / "comparison.json").read_text())
    assert list(document["methods"]) == ["control", "star"]
    assert document["missing"] == ["target_kl"]
    assert document["settings"]["held_out_clips"] == 4
    assert document["settings"]["training_clips"] == 8
    assert [run["seed"] for run in document["repeats"].values()] == [1]
    for result in (document["phase1"], *document["methods"].values(), *document["repeats"].values()):
        assert result["steps"] == result["updates"] == 3
        assert set(result["metrics"]) == set(METRICS)
        assert result["metrics"]["rate_kbps"] > 0 and result["metrics"]["capacity_kbps"] is None
    # β a million times the control's
    star, control = (document["methods"][name]["metrics"] for name in ("star", "control"))
    assert star["rate_kbps"] < control["rate_kbps"]
    assert document["methods"]["control"]["differs"] == {}
    assert document["methods"]["star"]["differs"] == {
        "losses.waveform": 0.0,
        "regularizer.name": "star",
        "regularizer.beta_min": 0.1,
        "regularizer.beta_max": 2.0,
        "optimizer.learning_rate": 0.05,
    }
    arguments = yaml.safe_load((options.folder / "runs" / "star" / "arguments.yaml").read_text())
    assert arguments["init_from"] == str(options.folder / "runs" / "phase1")
    # neither the machine's folders nor its name are told
    assert str(options.folder) not in json.dumps(document)


def test_the_page_shows_the_numbers_of_its_json(compared):
    document = json.loads((compared / "comparison.json").read_text())
    text = compared.with_suffix(".md").read_text()
    star = next(line for line in text.splitlines() if line.startswith("| star |"))
    cells = [cell.strip() for cell in star.strip("|").split("|")][1:]
    for metric, cell in zip(METRICS.values(), cells, strict=False):
        value = document["methods"]["star"]["metrics"][metric.key]
        assert cell == ("–" if value is None else verdict.number(value, metric.digits))
    assert "Not measured yet: target_kl." in text
    assert "- **star** moves " in text
    assert (compared / "comparison.png").is_file()
    compare_regularizers.main(["--docs", str(compared), "--check"])


def test_a_page_with_other_numbers_than_its_json_is_refused(compared, tmp_path, capsys):
    docs = tmp_path / "regularizers"
    docs.mkdir()
    document = json.loads((compared / "comparison.json").read_text())
    (docs / "comparison.json").write_text(json.dumps(document))
    compare_regularizers.main(["--docs", str(docs), "--render"])
    page.check_page(docs)
    document["methods"]["star"]["metrics"]["stft_distance"] += 0.5
    (docs / "comparison.json").write_text(json.dumps(document))
    with pytest.raises(SystemExit):
        compare_regularizers.main(["--docs", str(docs), "--check"])
    assert "is not what its JSON renders to: '| star |" in capsys.readouterr().err


@pytest.mark.skipif(not (DOCS / "comparison.json").is_file(), reason="nothing has been compared yet")
def test_the_committed_page_is_what_its_json_renders_to():
    page.check_page(DOCS)


def test_what_is_finished_is_not_repeated(compared, options, monkeypatch, capsys):
    monkeypatch.setattr(
        execution.Trainings, "_run_script", lambda self, run: pytest.fail(f"{run.name} again")
    )
    monkeypatch.setattr("study.held_out.measure", lambda *_: pytest.fail("measured again"))
    before = (compared / "comparison.json").read_text()
    compare_regularizers.main(options("--only", "star"))
    assert "star: already trained, 3 steps" in capsys.readouterr().out
    after = (compared / "comparison.json").read_text()
    assert json.loads(after)["methods"] == json.loads(before)["methods"]


def test_a_run_of_other_settings_is_refused(compared, options, capsys):
    with pytest.raises(SystemExit):
        compare_regularizers.main(options("--only", "star", "--steps", "5"))
    error = capsys.readouterr().err
    assert "holds a run of other settings (changes.max_steps: None became 5)" in error
    with pytest.raises(SystemExit):
        compare_regularizers.main(options("--only", "star", "--phase1_steps", "2"))
    assert "changes.max_steps: None became 2" in capsys.readouterr().err


def test_the_rate_is_swept(compared, options, in_this_process):
    compare_regularizers.main(options("--sweep", "[1, 4]"))
    document = json.loads((compared / "rate_sweep.json").read_text())
    assert [point["target_kbps"] for point in document["points"]] == [1, 4]
    for point in document["points"]:
        rate = point["metrics"]["rate_kbps"]
        assert point["held_out_deviation"] == pytest.approx(rate / point["target_kbps"] - 1, abs=1e-5)
    arguments = (options.folder / "runs" / "target_kl_4kbps" / "arguments.yaml").read_text()
    assert "target_kbps: 4.0" in arguments
    text = compared.with_suffix(".md").read_text()
    assert "## Target-KL: rate and distortion" in text
    assert verdict.number(document["points"][0]["metrics"]["rate_kbps"], 4) in text
    assert (compared / "rate_sweep.png").is_file()
    page.check_page(compared)


@pytest.mark.slow
def test_a_stopped_comparison_goes_on_from_its_checkpoint(
    recipe_folder, clips, tmp_path, monkeypatch, capsys
):
    """SIGTERM ends the script under way with a checkpoint; the same command finishes the run."""
    output, log = tmp_path / "runs", tmp_path / "runs" / "control" / "train.log"
    places = {"recipes": recipe_folder, "data": clips, "output_dir": output, "docs": tmp_path / "docs"}
    argv = [text for key, value in places.items() for text in (f"--{key}", str(value))]
    argv += ["--only", "control", "--steps", "3000"]
    phase1 = recipes.make_run("phase1", recipe_folder / "phase1.yaml", output, {"data.source": str(clips)})
    train_in_this_process(None, [phase1])

    returned = threading.Event()

    def stop_after_a_checkpoint():
        while not list(output.glob("control/checkpoints/step_*")):
            if returned.wait(0.05):
                return
        os.kill(os.getpid(), signal.SIGTERM)

    stopper = threading.Thread(target=stop_after_a_checkpoint)
    stopper.start()
    with pytest.raises(SystemExit) as stopped:
        compare_regularizers.main(argv)
    returned.set()
    stopper.join()
    assert stopped.value.code == 130
    assert "stopped; the same command continues" in capsys.readouterr().err
    step = runs.Run("control", recipe_folder / "control.yaml", log.parent).state()["step"]
    assert 0 < step < 3000
    assert f"stopped at step {step};" in log.read_text()
    assert not (tmp_path / "docs").exists()

    # the plan with its end in sight, instead of the thousands of steps that gave time to stop it
    end = str(step + 2)
    plan = (log.parent / "plan.json").read_text()
    (log.parent / "plan.json").write_text(plan.replace("3000", end))
    monkeypatch.setattr(execution.Trainings, "train", train_in_this_process)
    compare_regularizers.main([*argv[:-1], end])
    assert f"step_{step:08d}, " in log.read_text()
    document = json.loads((tmp_path / "docs" / "comparison.json").read_text())
    assert document["methods"]["control"]["steps"] == step + 2
