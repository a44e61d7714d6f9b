"""The autoencoder's script end to end on tiny models: losses, resuming, stopping, the two players."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from safetensors.torch import load_file


def weights(run):
    return load_file(run / "export" / "diffusion_pytorch_model.safetensors")


def reset_accelerate():
    """Accelerate keeps the options of a process's first run."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def assert_equal_weights(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_resumed_run_ends_with_the_same_weights(autoencoder_options, tmp_path):
    import train_autoencoder

    whole, parted = tmp_path / "whole", tmp_path / "parted"
    train_autoencoder.main(autoencoder_options("--output_dir", str(whole)))
    shutil.copytree(whole, parted)
    # what a kill while step 4 was being saved leaves behind
    shutil.rmtree(parted / "export")
    (parted / "checkpoints" / "step_00000004").rename(parted / "checkpoints" / ".incomplete-step_00000004")
    train_autoencoder.main(autoencoder_options("--output_dir", str(parted)))
    assert "continuing from" in (parted / "train.log").read_text()
    assert_equal_weights(weights(whole), weights(parted))
    assert not list((parted / "checkpoints").glob(".*"))


def test_a_checkpoint_of_another_model_is_refused(autoencoder_options, capsys):
    import train_autoencoder

    train_autoencoder.main(autoencoder_options())
    with pytest.raises(SystemExit):
        train_autoencoder.main(autoencoder_options("--model.encoder_hidden_size", "8", "--max_steps", "6"))
    assert "step_00000004' is of another model" in capsys.readouterr().err


def test_the_log_names_the_losses_as_their_weights(autoencoder_options, tmp_path):
    import train_autoencoder

    train_autoencoder.main(autoencoder_options("--report_to", "[tensorboard]"))
    run = tmp_path / "autoencoder"
    assert list(run.rglob("events.out.tfevents.*"))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    logged = [line for line in lines if "loss" in line]
    assert [line["step"] for line in logged] == [2, 4]
    for line in logged:
        total = line["loss/stft"] + line["loss/waveform"] + line["loss/kl"]
        assert line["loss"] == pytest.approx(total, rel=1e-5)
        assert line["audio_seconds_per_second"] > 0
        assert 0 <= line["data_wait"] <= 1
        assert line["kbit/s"] == pytest.approx(line["nats_per_frame"] / 0.6931472 * 250 / 1000, rel=1e-4)
    assert [line["step"] for line in lines if "validation/stft_distance" in line] == [2, 4]
    assert (run / "arguments.yaml").is_file()


def test_a_stream_and_several_workers_train(autoencoder_options, tmp_path):
    import train_autoencoder

    options = ["--data.streaming", "true", "--data.validation_fraction", "0", "--data.num_workers", "2"]
    train_autoencoder.main(autoencoder_options(*options))
    assert "streaming" in (tmp_path / "autoencoder" / "train.log").read_text()
    assert (tmp_path / "autoencoder" / "export" / "config.json").is_file()


def test_gradients_are_accumulated_over_batches(autoencoder_options, tmp_path):
    import train_autoencoder

    # two batches of 2 hold the clips of one batch of 4, and this loss is a mean over clips
    common = ["--max_steps", "1", "--log_every", "1", "--losses", "{waveform: 1.0}"]
    common += ["--posterior_noise.start_step", "100", "--optimizer.max_grad_norm", "1e9"]
    parts = ["--output_dir", str(tmp_path / "parts"), "--gradient_accumulation", "2"]
    whole = ["--output_dir", str(tmp_path / "whole"), "--data.batch_size", "4"]
    norms = []
    for options in (parts, whole):
        train_autoencoder.main(autoencoder_options(*common, *options))
        reset_accelerate()
        metrics = (Path(options[1]) / "metrics.jsonl").read_text().splitlines()
        norms.append(json.loads(metrics[0])["grad_norm"])
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    first, second = weights(tmp_path / "parts"), weights(tmp_path / "whole")
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-4, atol=1e-5)


def test_ctrl_c_saves_a_complete_checkpoint(autoencoder_options, tmp_path, monkeypatch):
    import train_autoencoder
    from engine.trainer import Trainer

    monkeypatch.setattr(Trainer, "_log_window", lambda self: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(SystemExit) as stopped:
        train_autoencoder.main(autoencoder_options("--log_every", "3", "--save_every", "100"))
    assert stopped.value.code == 130
    checkpoints = list((tmp_path / "autoencoder" / "checkpoints").iterdir())
    assert [path.name for path in checkpoints] == ["step_00000003"]
    assert json.loads((checkpoints[0] / "run_state.json").read_text())["step"] == 3


def test_phase_two_starts_from_the_run_of_phase_one(autoencoder_options, tmp_path):
    import train_autoencoder

    train_autoencoder.main(autoencoder_options())
    first, second = tmp_path / "autoencoder", tmp_path / "second"
    options = ["--output_dir", str(second), "--init_from", str(first), "--model", "null"]
    train_autoencoder.main(autoencoder_options(*options, "--optimizer.learning_rate", "0"))
    assert_equal_weights(weights(first), weights(second))
    assert str(tmp_path) not in (second / "export" / "config.json").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--losses.sfft", "1"], "losses has no 'sfft'"),
        (["--model.encoder_size", "8"], "unknown key 'model.encoder_size'"),
        (["--stft.fft", "8"], "unknown key 'stft.fft'"),
        (["--report_to", "[wandb]"], "tracker 'wandb' is not installed"),
        (["--report_to", "[nowhere]"], "tracker 'nowhere' is unknown"),
        (["--max_steps", "null"], "max_steps or max_minutes"),
        (["--regularizer.name", "none"], "regularizer.name must be one of isotropic, star, target_kl"),
        (["--freeze", "encoder"], "freeze 'encoder' leaves nothing for the loss 'kl' to train"),
        (["--adversarial.discriminator.filter", "8"], "unknown key 'adversarial.discriminator.filter'"),
        (["--adversarial.optimizer.schedule", "linear"], "adversarial.optimizer.schedule must be one of"),
        (["--data.source", "./nowhere"], "'./nowhere' does not exist"),
    ],
)
def test_mistakes_end_the_script_with_one_line(autoencoder_options, capsys, options, message):
    import train_autoencoder

    with pytest.raises(SystemExit) as stopped:
        train_autoencoder.main(autoencoder_options(*options))
    assert stopped.value.code == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error


def test_too_many_bad_files_stop_the_run_with_the_list(autoencoder_options, recordings, tmp_path, capsys):
    import train_autoencoder

    broken = tmp_path / "broken"
    shutil.copytree(recordings, broken)
    for index in (3, 6):
        (broken / f"{index}.wav").write_text("not audio")
    with pytest.raises(SystemExit):
        options = ["--data.source", str(broken), "--data.validation_fraction", "0", "--max_steps", "40"]
        train_autoencoder.main(autoencoder_options(*options))
    error = capsys.readouterr().err
    assert "files cannot be read, more than the 5.0% allowed" in error
    assert "3.wav" in error or "6.wav" in error


def test_one_bad_file_within_the_allowed_share_is_named_once(autoencoder_options, recordings, tmp_path):
    import train_autoencoder

    broken = tmp_path / "broken"
    shutil.copytree(recordings, broken)
    (broken / "3.wav").write_text("not audio")
    options = ["--data.source", str(broken), "--data.validation_fraction", "0", "--max_steps", "12"]
    train_autoencoder.main(autoencoder_options(*options, "--data.max_bad_share", "0.2"))
    log = (tmp_path / "autoencoder" / "train.log").read_text()
    assert log.count("skipping") == 1 and "3.wav" in log


ADVERSARIAL = ["--losses", "{stft: 1.0, kl: 1.0, adversarial: 0.1, feature_matching: 5.0}"]
ADVERSARIAL += ["--adversarial.discriminator", "{fft_sizes: [256, 64], filters: 4}"]


def test_the_discriminator_takes_every_second_step_from_its_start_on(autoencoder_options, tmp_path):
    import train_autoencoder

    options = [*ADVERSARIAL, "--adversarial.start_step", "2", "--max_steps", "6", "--log_every", "1"]
    train_autoencoder.main(autoencoder_options(*options))
    lines = (tmp_path / "autoencoder" / "metrics.jsonl").read_text().splitlines()
    trained = [
        {name.removeprefix("loss/") for name in line if name.startswith("loss/")}
        for line in map(json.loads, lines)
        if "loss" in line
    ]
    alone, against = {"stft", "kl"}, {"stft", "kl", "adversarial", "feature_matching"}
    assert trained == [alone, alone, against, {"discriminator"}, against, {"discriminator"}]


def test_each_network_has_gradients_of_its_own_steps_alone(autoencoder_options):
    from engine.arguments import parse_arguments
    from engine.run_log import quiet_libraries
    from tasks.autoencoder_arguments import AutoencoderArguments
    from tasks.autoencoder_task import AutoencoderTask

    quiet_libraries()
    arguments = parse_arguments(AutoencoderArguments, autoencoder_options(*ADVERSARIAL))
    task = AutoencoderTask(arguments, log=Silent())
    batch = next(iter(task.batches(0, 0, 1)))
    for step, trained, other in ((4, "autoencoder", "discriminator"), (5, "discriminator", "autoencoder")):
        assert task.player(step) == trained
        output = task.compute(task.modules, batch, step)
        sum(task.loss_weights[name] * loss for name, loss in output.losses.items()).backward()
        assert all(p.grad is not None and p.requires_grad for p in task.modules[trained].parameters())
        assert all(p.grad is None and p.requires_grad for p in task.modules[other].parameters())
        task.modules[trained].zero_grad()


class Silent:
    def say(self, message):
        pass


def test_an_adversarial_run_is_resumed_exactly(autoencoder_options, tmp_path):
    import train_autoencoder

    whole, parted = tmp_path / "whole", tmp_path / "parted"
    options = [*ADVERSARIAL, "--max_steps", "7", "--save_every", "3", "--keep_last", "3"]
    options += ["--adversarial.optimizer.warmup_steps", "1"]
    train_autoencoder.main(autoencoder_options(*options, "--output_dir", str(whole)))
    shutil.copytree(whole, parted)
    for name in ("step_00000006", "step_00000007"):
        shutil.rmtree(parted / "checkpoints" / name)
    train_autoencoder.main(autoencoder_options(*options, "--output_dir", str(parted)))
    assert "step_00000003" in (parted / "train.log").read_text()
    assert_equal_weights(weights(whole), weights(parted))
    for name in ("model_1.safetensors", "ema.safetensors"):
        states = [load_file(run / "checkpoints" / "step_00000007" / name) for run in (whole, parted)]
        assert_equal_weights(*states)


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(autoencoder_options, tmp_path, streaming):
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    options = [*ADVERSARIAL, "--max_steps", "24", "--save_every", "3", "--data.num_workers", "1"]
    if streaming:
        options += ["--data.streaming", "true", "--data.shuffle_buffer", "4"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    def start(run):
        command = [sys.executable, str(root / "training" / "train_autoencoder.py")]
        command += autoencoder_options(*options, "--output_dir", str(run))
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)

    assert start(whole).wait() == 0
    kills = 0
    for least in (6, 12):
        process = start(killed)
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            saved = [int(path.name[-8:]) for path in (killed / "checkpoints").glob("step_*")]
            if saved and max(saved) >= least:
                process.kill()
            time.sleep(0.002)
        kills += process.wait() == -signal.SIGKILL
    assert kills == 2
    assert start(killed).wait() == 0
    assert "continuing from" in (killed / "train.log").read_text()
    assert_equal_weights(weights(whole), weights(killed))


def test_a_frozen_encoder_keeps_its_latents(autoencoder_options, tmp_path):
    import train_autoencoder

    train_autoencoder.main(autoencoder_options())
    first, second = tmp_path / "autoencoder", tmp_path / "second"
    options = [
        "--output_dir",
        str(second),
        "--init_from",
        str(first),
        "--model",
        "null",
        "--freeze",
        "encoder",
    ]
    train_autoencoder.main(autoencoder_options(*options, "--losses", "{stft: 1.0, kl: 0}"))
    before, after = weights(first), weights(second)
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"decoder"}


def test_a_report_shows_and_plays_held_out_clips(autoencoder_options, tmp_path):
    import train_autoencoder

    train_autoencoder.main(autoencoder_options("--report_every", "2", "--data.validation_seconds", "0.4"))
    names = {path.name for path in (tmp_path / "autoencoder" / "reports" / "step_00000004").iterdir()}
    assert {
        "clip_0_original.wav",
        "clip_0_reconstruction.wav",
        "reconstructions.png",
        "channel_kl.png",
    } <= names


def test_an_unusable_output_folder_is_one_line(autoencoder_options, tmp_path, capsys):
    import train_autoencoder

    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SystemExit):
        train_autoencoder.main(autoencoder_options("--output_dir", str(tmp_path / "file" / "run")))
    assert "Not a directory" in capsys.readouterr().err.strip().splitlines()[-1]


def test_a_dry_run_writes_nothing(autoencoder_options, tmp_path, capsys):
    import train_autoencoder

    train_autoencoder.main(autoencoder_options("--dry_run", *ADVERSARIAL))
    assert "discriminator" in capsys.readouterr().out
    assert not (tmp_path / "autoencoder").exists()
