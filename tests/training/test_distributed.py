"""Two processes on the CPU train as one, write once, and end together."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
import torch
from datasets import Audio, Dataset
from distributed_runs import (
    ENVIRONMENT,
    FORKS,
    MODULES,
    PRELOADED,
    ROOT,
    Run,
    points,
    script,
    sharded_script,
    watched_script,
)
from safetensors.torch import load_file

CONFIGS = ROOT / "training" / "accelerate"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _server():
    with pytest.MonkeyPatch.context() as patch:
        for folder in MODULES:
            patch.setenv("PYTHONPATH", folder, prepend=os.pathsep)
        FORKS.set_forkserver_preload(PRELOADED)
        yield


MODEL = """
max_steps: 8
log_every: 1
validate_every: 4
save_every: 4
keep_last: 3
threads: 1
report_to: []
model:
  encoder_hidden_size: 4
  decoder_channels: 4
  downsampling_ratios: [8]
  channel_multiples: [1]
  decoder_input_channels: 8
  sampling_rate: 8000
  context_type: none
data: {validation_fraction: 0.2, validation_key: group, crops: {num_samples: 2048}}
losses: {stft: 1.0, waveform: 1.0, kl: 1.0, adversarial: 0.1, feature_matching: 5.0}
# the slope of the logarithm near silence would blow the last digits up
stft: {fft_sizes: [256, 64], log_magnitude_weight: 0}
# as would Adam with the output bias, whose gradient is zero until the hinge closes: a small learning rate
adversarial: {discriminator: {fft_sizes: [128], filters: 4, dilations: [1]}, optimizer: {learning_rate: 1e-6}}
optimizer: {learning_rate: 1e-3, warmup_steps: 1}
"""


@pytest.fixture(scope="module")
def options(recordings, tmp_path_factory):
    """Command line of an adversarial run of eight steps; later options win."""
    recipe = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    recipe.write_text(MODEL)
    return ["--config", str(recipe), "--data.source", str(recordings)]


@pytest.fixture(scope="module")
def one(options, tmp_path_factory):
    """A finished run of one process."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    train(folder, 1, *options, "--data.batch_size", "4")
    return folder


@pytest.fixture(scope="module")
def two(options, tmp_path_factory):
    """The same with two processes; what they wrote is in `writes_*.json`."""
    folder = tmp_path_factory.mktemp("runs") / "two"
    argv = [*options, "--output_dir", str(folder), "--data.batch_size", "2"]
    Run(folder, 2, watched_script, folder, "train_autoencoder", argv).succeed()
    return folder


def train(folder, count, *options, name="train_autoencoder"):
    Run(folder, count, script, name, [*options, "--output_dir", str(folder)]).succeed()


def cut(run, folder):
    """A copy of a run as it was at step 4."""
    shutil.copytree(run, folder)
    shutil.rmtree(folder / "checkpoints" / "step_00000008")
    return folder


def lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def losses(run, name="loss"):
    logged = [line for line in lines(run) if "loss" in line]
    return [{key: value for key, value in line.items() if key.startswith(name)} for line in logged]


def weights(run):
    return load_file(next((run / "export").rglob("*.safetensors")))


def assert_same_training(first, second):
    """Losses to 1e-4, gradients' norms of both networks to 1e-3, weights to a hundredth of the first step."""
    for name, tolerance in (("loss", 1e-4), ("grad_norm", 1e-3)):
        assert len(losses(first, name)) == 8
        for own, other in zip(losses(first, name), losses(second, name), strict=True):
            assert own == pytest.approx(other, rel=tolerance)
    other = weights(second)
    for name, value in weights(first).items():
        torch.testing.assert_close(other[name], value, rtol=0, atol=1e-5)


def assert_bitwise_equal(first, second):
    for name in ("model.safetensors", "model_1.safetensors", "ema.safetensors"):
        own, other = (load_file(run / "checkpoints" / "step_00000008" / name) for run in (first, second))
        assert own.keys() == other.keys()
        assert all(torch.equal(own[key], other[key]) for key in own)


def test_two_processes_train_as_one(one, two):
    assert {"loss/discriminator", "loss/stft"} <= {name for line in losses(one) for name in line}
    assert_same_training(one, two)


def test_objectives_on_the_latents_train_alike_with_two_processes(options, tmp_path):
    """The running deviations are those of all processes, the probes are exchanged as the rest."""
    method = ["--losses", "{stft: 1.0, moments: 0.1, regressors: 1.0}"]
    method += ["--regularizer.name", "soft_normalization", "--posterior_noise", "{}"]
    method += ["--latent_noise.scale", "0.05"]
    train(tmp_path / "one", 1, *options, *method, "--data.batch_size", "4")
    train(tmp_path / "two", 2, *options, *method, "--data.batch_size", "2")
    assert_same_training(tmp_path / "one", tmp_path / "two")
    assert "normalization.running_std" in weights(tmp_path / "one")


def test_one_process_writes(two):
    main, other = (json.loads((two / f"writes_{rank}.json").read_text()) for rank in (0, 1))
    assert {"metrics.jsonl", "train.log", "run_state.json"} <= set(main)
    assert other == []
    steps = Counter(line["step"] for line in lines(two) if "loss" in line)
    assert steps == Counter(range(1, 9))
    said = [line.split(" ", 2)[2] for line in (two / "train.log").read_text().splitlines()]
    assert len(said) == len(set(said))
    # of the other process there are its random numbers, and nothing on the terminal
    names = {path.name for path in (two / "checkpoints" / "step_00000008").iterdir()}
    assert {"random_states_0.pkl", "random_states_1.pkl"} <= names
    assert (two / "output_1.txt").read_text() == ""


def test_two_processes_continue_exactly(options, two, tmp_path):
    parted = cut(two, tmp_path / "parted")
    train(parted, 2, *options, "--data.batch_size", "2")
    assert "continuing from" in (parted / "train.log").read_text()
    assert_bitwise_equal(two, parted)


def test_one_process_continues_what_two_began(options, two, tmp_path):
    parted = cut(two, tmp_path / "parted")
    train(parted, 1, *options, "--data.batch_size", "4")
    assert "continuing from" in (parted / "train.log").read_text()
    assert_same_training(two, parted)


def test_a_checkpoint_holds_what_the_guide_counts(one):
    """Four numbers for each weight (itself, two moments, average), three for each of the discriminator."""
    folder = one / "checkpoints" / "step_00000008"

    def stored(name):
        return sum(tensor.numel() for tensor in load_file(folder / name).values())

    model, discriminator = stored("model.safetensors"), stored("model_1.safetensors")
    assert stored("ema.safetensors") == model
    for name, numbers in (("optimizer.bin", model), ("optimizer_1.bin", discriminator)):
        states = torch.load(folder / name, weights_only=True)["state"].values()
        assert sum(s["exp_avg"].numel() + s["exp_avg_sq"].numel() for s in states) == 2 * numbers


@pytest.fixture(scope="module")
def fsdp2():
    """What `accelerate launch` tells the processes with the configuration file for FSDP2."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env

    command = ["--config_file", str(CONFIGS / "fsdp2.yaml"), "--num_processes", "2"]
    arguments = launch_command_parser().parse_args([*command, "--main_process_port", "0", "script.py"])
    environment = prepare_multi_gpu_env(_validate_launch_command(arguments)[0])
    told = {name: text for name, text in environment.items() if name.startswith(("FSDP", "ACCELERATE"))}
    return {**told, "ACCELERATE_MIXED_PRECISION": "no"}


def test_sharded_weights_train_as_one_process_and_continue_exactly(options, one, fsdp2, tmp_path):
    whole = tmp_path / "whole"
    argv = [*options, "--data.batch_size", "2", "--output_dir"]
    Run(whole, 2, sharded_script, fsdp2, "train_autoencoder", [*argv, str(whole)]).succeed()
    assert_same_training(one, whole)
    checkpoint = whole / "checkpoints" / "step_00000008"
    assert len(list((checkpoint / "pytorch_model_fsdp_0").glob("*.distcp"))) == 2
    # the averages are written whole: they are those of the run of one process
    averages, expected = (
        load_file(run / "checkpoints" / "step_00000008" / "ema.safetensors") for run in (whole, one)
    )
    for name, value in expected.items():
        torch.testing.assert_close(averages[name], value, rtol=0, atol=1e-5)

    parted = cut(whole, tmp_path / "parted")
    Run(parted, 2, sharded_script, fsdp2, "train_autoencoder", [*argv, str(parted)]).succeed()
    assert "continuing from" in (parted / "train.log").read_text()
    first, second = weights(whole), weights(parted)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_generator_trains_alike_with_two_processes(exported_autoencoder, generator_options, tmp_path):
    import encode_latents

    rows = ["file_name,text,label,group"]
    source = tmp_path / "clips"
    source.mkdir()
    for index in range(8):
        write_clip(source / f"{index}.wav", 800 * (1 + index % 3), index)
        rows.append(f"{index}.wav,text {index},low,{index}")
    (source / "metadata.csv").write_text("\n".join(rows) + "\n")
    latents = tmp_path / "latents"
    keep = ["--keep_columns", "[label, group]"]
    encode_latents.main(
        ["--vae", str(exported_autoencoder), "--source", str(source), "--output_dir", str(latents), *keep]
    )
    runs = [tmp_path / "one", tmp_path / "two"]
    for count, run in enumerate(runs, start=1):
        batch = ["--data.batch_size", str(4 // count), "--output_dir", str(run), "--max_steps", "6"]
        argv = generator_options(*batch, "--export_dtype", "float32")
        Run(run, count, script, "train_generator", argv).succeed()
    first, second = (losses(run) for run in runs)
    assert len(first) == 6 and all("loss" in line for line in first)
    for own, other in zip(first, second, strict=True):
        assert own == pytest.approx(other, rel=1e-4)
    first, second = (load_file(run / "checkpoints" / "step_00000006" / "ema.safetensors") for run in runs)
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=0, atol=1e-5)


def write_clip(path, num_samples, seed):
    import numpy as np
    import soundfile

    samples = 0.3 * np.random.default_rng(seed).standard_normal(num_samples).clip(-3, 3)
    soundfile.write(path, samples, 8000)


PLAIN = ["--losses", "{waveform: 1.0}", "--data.validation_fraction", "0", "--data.validation_key", "null"]
PLAIN += ["--adversarial.discriminator", "null", "--save_every", "100"]


def reads(folder):
    return [json.loads((folder / f"reads_{rank}.json").read_text()) for rank in (0, 1)]


def test_each_file_is_read_once_per_epoch(options, tmp_path):
    run = tmp_path / "run"
    argv = [*options, *PLAIN, "--output_dir", str(run), "--data.batch_size", "3", "--max_steps", "3"]
    Run(run, 2, watched_script, run, "train_autoencoder", argv).succeed()
    first, second = reads(run)
    assert len(first) == len(second) == 9
    # two epochs of nine files, in turns
    order = [name for pair in zip(first, second, strict=True) for name in pair]
    for epoch in (order[:9], order[9:]):
        assert sorted(epoch) == [f"{index}.wav" for index in range(9)]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Nine clips as Parquet: in three shards of one, three and five, and in a single one."""
    folder = tmp_path_factory.mktemp("shards")
    for index in range(9):
        write_clip(folder / f"{index}.wav", 3000, index)
    for name, bounds in (("three", (0, 1, 4, 9)), ("single", (0, 9))):
        (folder / name).mkdir()
        for shard, (start, end) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
            clips = [(folder / f"{index}.wav").read_bytes() for index in range(start, end)]
            dataset = Dataset.from_list([{"audio": {"bytes": clip, "path": None}} for clip in clips])
            dataset = dataset.cast_column("audio", Audio(decode=False))
            dataset.to_parquet(str(folder / name / f"train-{shard}.parquet"))
    return folder


@pytest.mark.parametrize("name", ["three", "single"])
def test_uneven_shards_of_a_stream_do_not_hang(options, shards, tmp_path, name):
    run = tmp_path / "run"
    argv = [*options, *PLAIN, "--output_dir", str(run), "--data.source", str(shards / name)]
    argv += ["--data.streaming", "true", "--data.shuffle_buffer", "2", "--data.batch_size", "3"]
    Run(run, 2, watched_script, run, "train_autoencoder", [*argv, "--max_steps", "5"]).succeed()
    first, second = reads(run)
    assert len(first) == len(second) == 15
    # somewhere in each the first pass ends: by then the two have read every clip once
    assert len({*first, *second}) == 9
    assert any(len({*first[:own], *second[: 9 - own]}) == 9 for own in range(1, 9))


def test_a_killed_process_ends_the_run_which_then_continues(options, tmp_path):
    run, output = tmp_path / "run", tmp_path / "output.txt"
    argv = [*options, "--data.batch_size", "2", "--output_dir", str(run), "--save_every", "2"]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--main_process_port", "0"]
    launch += ["--config_file", str(CONFIGS / "cpu_gloo.yaml"), "--num_processes", "2"]
    command = [*launch, str(ROOT / "training" / "train_autoencoder.py"), *argv, "--max_steps", "100000"]
    with output.open("w") as file:
        launcher = subprocess.Popen(
            command,
            env={**os.environ, **ENVIRONMENT},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for(lambda: list(run.glob("checkpoints/step_*")), 120)
        os.kill(worker_of(launcher.pid, "RANK=1"), signal.SIGKILL)
        killed = time.monotonic()
        code = launcher.wait(timeout=60)
    finally:
        if launcher.poll() is None:
            os.killpg(launcher.pid, signal.SIGKILL)
    text = output.read_text()
    assert code != 0 and time.monotonic() - killed < 40
    assert "error: another process of this run has ended" in text
    assert "The same command continues" in text
    assert re.search(r"exitcode +: -9", text)
    saved = max(int(path.name[-8:]) for path in run.glob("checkpoints/step_*"))

    train(run, 2, *argv, "--max_steps", str(saved + 2))
    log = (run / "train.log").read_text()
    assert f"step_{saved:08d}, " in log and f"done: {saved + 2} steps" in log


def worker_of(launcher, setting):
    """The process among the launcher's children whose environment has `setting`."""
    children = subprocess.run(["pgrep", "-P", str(launcher)], capture_output=True, text=True).stdout.split()
    for child in children:
        with open(f"/proc/{child}/environ", "rb") as file:
            if setting.encode() in file.read().split(b"\0"):
                return int(child)
    raise AssertionError(f"no process with {setting}")


def wait_for(condition, timeout):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


def point_options(folder, fault, *more):
    own = {"output_dir": folder, "fault": fault, "max_steps": 6, "log_every": 1, "save_every": 100}
    own |= {"threads": 1, "report_to": "[]", "optimizer.learning_rate": 0.1, "optimizer.warmup_steps": 0}
    return [text for key, value in own.items() for text in (f"--{key}", str(value))] + list(more)


def start_points(folder, fault, *more, count=2):
    return Run(folder, count, points, point_options(folder, fault, *more))


def checkpoints(run):
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_a_signal_to_one_process_stops_both_at_the_same_step(tmp_path):
    run = start_points(tmp_path, "slow", "--max_steps", "100000")
    wait_for(lambda: (tmp_path / "metrics.jsonl").exists() and len(lines(tmp_path)) > 3, 60)
    os.kill(run.processes[1].pid, signal.SIGTERM)
    assert run.wait() == [130, 130], run.text()
    (checkpoint,) = checkpoints(tmp_path)
    step = int(checkpoint[-8:])
    assert f"stopped at step {step}; the same command continues" in (tmp_path / "train.log").read_text()
    state = json.loads((tmp_path / "checkpoints" / checkpoint / "run_state.json").read_text())
    assert state["step"] == step == lines(tmp_path)[-1]["step"]


def test_a_signal_to_a_whole_group_spares_the_processes_that_read_audio(options, tmp_path):
    # so does torchrun hand on a signal; without these processes the step could not be finished
    argv = [*options, *PLAIN, "--output_dir", str(tmp_path), "--data.num_workers", "1"]
    run = Run(tmp_path, 2, script, "train_autoencoder", [*argv, "--max_steps", "100000"])
    wait_for(lambda: (tmp_path / "metrics.jsonl").exists() and len(lines(tmp_path)) > 3, 60)
    for process in run.processes:
        os.killpg(process.pid, signal.SIGTERM)
    assert run.wait() == [130, 130], run.text()
    assert len(checkpoints(tmp_path)) == 1


def test_clocks_that_differ_end_the_run_at_the_same_step(tmp_path):
    start_points(tmp_path, "fast clock on 1", "--max_steps", "null", "--max_minutes", "0.01").succeed()
    assert len(checkpoints(tmp_path)) == 1


def test_a_step_that_is_not_finite_on_one_process_is_skipped_by_both(tmp_path):
    start_points(tmp_path, "nan on 1").succeed()
    assert [line["skipped_steps"] for line in lines(tmp_path) if "loss" in line] == [0, 0, 0, 1, 1, 1]
    state = json.loads((tmp_path / "checkpoints" / "step_00000006" / "run_state.json").read_text())
    assert state["updates"] == {"line": 5}


def test_batches_of_different_sizes_weigh_as_much_as_they_hold(tmp_path):
    # one process has the gradient of all eight points, two have those of two and of six
    for count, batch in ((1, 8), (2, 4)):
        run = start_points(tmp_path / str(count), "uneven", "--num_points", str(batch), count=count)
        run.succeed()
    first, second = (losses(tmp_path / str(count), "grad_norm") for count in (1, 2))
    assert len(first) == 6 and all("grad_norm" in line for line in first)
    for own, other in zip(first, second, strict=True):
        assert own == pytest.approx(other, rel=1e-5)


def test_an_error_on_one_process_ends_the_other(tmp_path):
    run = start_points(tmp_path, "an error on 1")
    assert run.wait(timeout=40) == [1, 1]
    own, other = (output.read_text() for output in reversed(run.outputs))
    assert "ArithmeticError: only here" in own
    assert "error: another process of this run has ended" in other


def test_a_bad_file_of_any_process_is_named_by_the_main_one(tmp_path):
    start_points(tmp_path, "a bad file on 1").succeed()
    assert (tmp_path / "train.log").read_text().count("skipping 0.wav: broken") == 1


def test_too_many_bad_files_of_one_process_end_both(tmp_path):
    run = start_points(tmp_path, "many bad files on 1")
    assert run.wait(timeout=40) == [1, 1]
    for output in run.outputs:
        assert "6 of 100 files cannot be read, more than the 5.0% allowed" in output.read_text()


def test_a_full_disk_of_the_main_process_stops_neither(tmp_path):
    start_points(tmp_path, "a full disk on 0", "--save_every", "2", "--keep_last", "5").succeed()
    assert checkpoints(tmp_path) == ["step_00000002", "step_00000006"]
