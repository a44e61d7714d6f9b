"""The log, its numbers, sounds and pictures reach files and trackers, and a failing disk ends nothing."""

import json
import mmap
import os
import random
import resource
import sqlite3
import sys
import threading
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def open_log(folder, trackers=()):
    from engine.run_log import RunLog

    project = ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder))
    accelerator = Accelerator(log_with=list(trackers) or None, project_config=project, cpu=True)
    log = RunLog(accelerator, folder)
    log.start_trackers({"learning_rate": 1e-3, "model/name": "tiny"})
    return log


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def small_report():
    from engine.reports import Report

    time = torch.arange(800) / 8000
    stereo = torch.stack([torch.sin(2 * np.pi * 440 * time), -torch.sin(2 * np.pi * 440 * time)])
    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([0, 1])
    return Report(audio={"dog bark": (0.5 * stereo, 8000)}, figures={"kl/profile": figure})


def events(folder):
    accumulator = EventAccumulator(
        str(folder / "star_hf"), size_guidance={"scalars": 0, "images": 0, "audio": 0}
    )
    accumulator.Reload()
    return accumulator


@pytest.fixture
def fresh_trackio(monkeypatch):
    """trackio takes its folder from the environment when it is first imported."""
    monkeypatch.delenv("TRACKIO_DIR", raising=False)
    for name in [name for name in sys.modules if name.split(".")[0] == "trackio"]:
        monkeypatch.delitem(sys.modules, name)
    before = set(sys.modules)
    yield
    os.environ.pop("TRACKIO_DIR", None)
    for name in [name for name in set(sys.modules) - before if name.split(".")[0] == "trackio"]:
        del sys.modules[name]


@contextmanager
def full_disk(size):
    """Files cannot grow beyond `size` bytes, as on a disk without space: a write ends halfway."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_both_trackers_get_scalars_sounds_and_pictures_under_the_same_names(tmp_path, fresh_trackio, capsys):
    folder = tmp_path / "my run"
    log = open_log(folder, ["tensorboard", "trackio"])
    log.record(3, {"loss/stft": 1.5, "kbit/s": 2.25})
    log.report(3, small_report())
    log.close()

    scalars = events(folder)
    assert {"loss/stft", "kbit/s"} <= set(scalars.Tags()["scalars"])
    assert [(event.step, event.value) for event in scalars.Scalars("loss/stft")] == [(3, 1.5)]
    written = folder / "reports" / "step_00000003"
    assert sorted(path.name for path in written.iterdir()) == ["dog_bark.wav", "kl_profile.png"]
    (sound,) = scalars.Audio("audio/dog bark")
    assert sound.encoded_audio_string == (written / "dog_bark.wav").read_bytes()
    assert (sound.step, sound.sample_rate, sound.length_frames) == (3, 8000, 800)
    (picture,) = scalars.Images("figures/kl/profile")
    assert picture.encoded_image_string == (written / "kl_profile.png").read_bytes()
    assert (picture.width, picture.height) == (120, 120)

    with sqlite3.connect(folder / "trackio" / "star_hf.db") as database:
        rows = database.execute("select run_name, step, metrics from metrics").fetchall()
        (config,) = database.execute("select config from configs").fetchone()
    assert {(name, step) for name, step, _ in rows} == {("my run", 3)}
    values = {key: value for row in rows for key, value in json.loads(row[2]).items()}
    assert values["loss/stft"] == 1.5 and values["kbit/s"] == 2.25
    for key, file in (("audio/dog bark", "dog_bark.wav"), ("figures/kl/profile", "kl_profile.png")):
        copy = folder / "trackio" / "media" / values[key]["file_path"]
        assert copy.read_bytes() == (written / file).read_bytes()
    assert json.loads(config)["model/name"] == "tiny"
    shown = capsys.readouterr().out
    assert f"tensorboard --logdir {folder}" in shown
    assert f"TRACKIO_DIR={folder / 'trackio'} trackio show" in shown
    assert "psutil" not in shown and "Uploading" not in shown


def test_trackers_start_no_process_and_leave_random_numbers_alone(tmp_path, fresh_trackio):
    import psutil

    os.environ["TRACKIO_DIR"] = str(tmp_path / "trackio")
    import trackio  # noqa: F401  the import may draw random numbers, the run may not

    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    # other tests may have left some behind
    own, threads = psutil.Process(), set(threading.enumerate())
    children, listening = set(own.children()), listening_ports(own)
    log = open_log(tmp_path, ["tensorboard", "trackio"])
    log.record(1, {"loss": 1.0})
    log.report(1, small_report())
    assert set(own.children()) <= children
    assert listening_ports(own) <= listening
    log.close()
    assert states[0] == random.getstate()
    assert states[1] == np.random.get_state()[1].tolist()
    assert torch.equal(states[2], torch.get_rng_state())
    assert all(thread.daemon for thread in set(threading.enumerate()) - threads)


def listening_ports(process):
    return {connection.laddr for connection in process.net_connections() if connection.status == "LISTEN"}


def test_a_resumed_run_is_the_same_trackio_run(tmp_path, fresh_trackio):
    for step in (1, 2):
        log = open_log(tmp_path / "run", ["trackio"])
        log.record(step, {"loss": 1.0})
        log.close()
    with sqlite3.connect(tmp_path / "run" / "trackio" / "star_hf.db") as database:
        rows = database.execute("select run_id, step from metrics order by step").fetchall()
    assert [step for _, step in rows] == [1, 2]
    assert len({run for run, _ in rows}) == 1


def test_wandb_gets_the_files(tmp_path, monkeypatch):
    class Media:
        def __init__(self, path):
            self.name = path.rpartition("/")[2]

    fake = ModuleType("wandb")
    fake.Audio = fake.Image = Media
    monkeypatch.setitem(sys.modules, "wandb", fake)
    logged = {}
    log = open_log(tmp_path)
    tracker = SimpleNamespace(name="wandb", log=lambda items, step: logged.update({step: items}), finish=list)
    log.accelerator.trackers.append(tracker)
    log.report(7, small_report())
    log.close()
    assert {key: value.name for key, value in logged[7].items()} == {
        "audio/dog bark": "dog_bark.wav",
        "figures/kl/profile": "kl_profile.png",
    }


def test_numbers_that_are_not_finite_stay_valid_json(tmp_path):
    log = open_log(tmp_path)
    log.record(1, {"loss": float("nan"), "other": float("-inf"), "step_time": 2.0})
    log.close()
    constants = []
    json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=constants.append)
    assert not constants
    assert records(tmp_path) == [{"step": 1, "loss": None, "other": None, "step_time": 2.0}]


def test_truncate_forgets_what_a_resumed_run_writes_again(tmp_path):
    log = open_log(tmp_path, ["tensorboard"])
    for step in (2, 4, 6):
        log.record(step, {"loss": float(step)})
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "los')  # a process killed while it wrote
    log = open_log(tmp_path, ["tensorboard"])
    log.truncate(4)
    log.record(6, {"loss": 66.0})
    log.close()
    assert records(tmp_path) == [
        {"step": step, "loss": loss} for step, loss in ((2, 2.0), (4, 4.0), (6, 66.0))
    ]
    shown = [(event.step, event.value) for event in events(tmp_path).Scalars("loss")]
    assert shown == [(2, 2.0), (4, 4.0), (6, 66.0)]
    assert not list(tmp_path.glob(".*"))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # soundfile's callbacks
def test_a_full_disk_is_said_once_and_leaves_whole_lines(tmp_path, capsys):
    log = open_log(tmp_path)
    log.record(1, {"loss": 1.0})
    log.say("begun")
    size = (tmp_path / "metrics.jsonl").stat().st_size
    with full_disk(size + 10):
        for step in (2, 3):
            log.record(step, {"loss": 1.0})
            log.report(step, small_report())
            log.say("still there")
    log.record(4, {"loss": 1.0})
    log.say("space again")
    log.close()
    assert [record["step"] for record in records(tmp_path)] == [1, 4]
    lines = (tmp_path / "train.log").read_text().splitlines()
    assert [line[20:] for line in lines] == ["begun", "space again"]
    assert not list((tmp_path / "reports").iterdir())
    shown = capsys.readouterr().out
    for name in ("metrics.jsonl", "train.log", "reports"):
        assert shown.count(f"warning: {name} cannot be written") == 1


def test_a_failing_tracker_is_said_once_and_keeps_nobody_waiting(tmp_path, capsys):
    def fail(*_, **__):
        raise ConnectionError("no route")

    log = open_log(tmp_path)
    logged = []
    good = SimpleNamespace(name="good", log=lambda values, step: logged.append(step), finish=list)
    log.accelerator.trackers += [SimpleNamespace(name="bad", log=fail, finish=fail), good]
    log.record(1, {"loss": 1.0})
    log.record(2, {"loss": 1.0})
    log.close()
    assert logged == [1, 2]
    assert (
        capsys.readouterr().out.count("warning: bad cannot be written, the run goes on without: no route")
        == 1
    )


def test_a_broken_sound_costs_only_itself(tmp_path, capsys):
    report = small_report()
    report.audio["broken"] = (torch.full((1, 10), float("nan")), 8000)
    log = open_log(tmp_path, ["tensorboard"])
    log.report(5, report)
    log.close()
    names = sorted(path.name for path in (tmp_path / "reports" / "step_00000005").iterdir())
    assert names == ["dog_bark.wav", "kl_profile.png"]
    assert events(tmp_path).Tags()["audio"] == ["audio/dog bark"]
    assert "warning: no sound 'broken' at step 5" in capsys.readouterr().out


def test_names_become_different_file_names(tmp_path):
    from engine.reports import Report

    clip = (torch.zeros(1, 8), 8000)
    names = ["a dog / barks!", "a dog barks", "A DOG BARKS", "../../up", "*", "x" * 200]
    log = open_log(tmp_path)
    log.report(1, Report(audio={name: clip for name in names}))
    log.close()
    written = {path.name.lower() for path in (tmp_path / "reports" / "step_00000001").iterdir()}
    assert written == {
        "a_dog_barks.wav",
        "a_dog_barks_2.wav",
        "a_dog_barks_3.wav",
        "up.wav",
        "unnamed.wav",
        "x" * 60 + ".wav",
    }


def test_a_report_is_written_again_in_place(tmp_path):
    log = open_log(tmp_path)
    log.report(1, small_report())
    second = small_report()
    second.audio = {"other": (torch.zeros(1, 16), 8000)}
    log.report(1, second)
    log.close()
    folder = tmp_path / "reports" / "step_00000001"
    assert sorted(path.name for path in folder.iterdir()) == ["kl_profile.png", "other.wav"]
    assert soundfile.info(folder / "other.wav").frames == 16
    assert [path.name for path in folder.parent.iterdir()] == ["step_00000001"]


def test_only_the_main_process_writes(tmp_path, capsys):
    from engine.run_log import RunLog

    class Accelerator:
        is_main_process = False
        log_with = ["tensorboard"]
        trackers = [SimpleNamespace(name="untouchable")]
        ended = False

        def init_trackers(self, *_, **__):
            pass

        def end_training(self):
            self.ended = True

    log = RunLog(Accelerator(), tmp_path / "run")
    log.start_trackers({})
    log.say("hello")
    log.record(1, {"loss": 1.0})
    log.report(1, small_report())
    log.truncate(0)
    log.close()
    assert log.accelerator.ended
    assert not (tmp_path / "run").exists()
    assert capsys.readouterr().out == ""


def test_an_unknown_or_missing_tracker_is_refused():
    from engine.run_log import check_trackers

    check_trackers(["tensorboard", "trackio"])
    with pytest.raises(ValueError, match="'weights' is unknown; available: .*tensorboard"):
        check_trackers(["weights"])
    with pytest.raises(ValueError, match=r"'clearml' is not installed \(pip install clearml\)"):
        check_trackers(["clearml"])


def test_progress_line_leaves_out_what_has_no_value():
    from engine.run_log import clock, number, progress_line

    parts = {"loss": f"{number(1.23456)} = stft 1", "": "kl_head 0.5", "lr": "", "skipped": None}
    line = progress_line(100, "5000", {**parts, "speed": "2 steps/s", "left": clock(3900)})
    assert line == "step 100/5000 | loss 1.235 = stft 1 | kl_head 0.5 | speed 2 steps/s | left 1 h 05 min"


def test_numbers_and_times_are_short():
    from engine.run_log import clock, number

    assert [number(value) for value in (0.0, 0.5, 1e-4, 123456.0, -2.0)] == [
        "0",
        "0.5",
        "1.000e-04",
        "1.235e+05",
        "-2",
    ]
    assert [clock(seconds) for seconds in (0, 59.4, 60, 3599, 90000)] == [
        "0 s",
        "59 s",
        "1 min",
        "1 h 00 min",
        "25 h 00 min",
    ]


def test_memory_in_use_follows_what_is_allocated():
    from engine.memory import memory_in_use

    before = memory_in_use(torch.device("cpu"))
    # straight from the system: the allocator may still hold what earlier tests gave back
    block = mmap.mmap(-1, 64 * 2**20)
    torch.frombuffer(block, dtype=torch.uint8).fill_(1)
    grown = memory_in_use(torch.device("cpu")) - before
    assert 60 * 2**20 < grown < 96 * 2**20
    del block
