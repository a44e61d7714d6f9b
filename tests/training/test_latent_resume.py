"""Encoding with interruptions and by several processes gives the files of one uninterrupted process."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OPTIONS = ("--num_shifts", "1", "--rows_per_shard", "1", "--batch_size", "2")


class Killed(BaseException):
    """Ends a run at once, as no other exception of the script does."""


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def uninterrupted(encode_options, tmp_path):
    """The files that one process writes without a break."""
    import encode_latents

    encode_latents.main(encode_options(*OPTIONS, "--output_dir", str(tmp_path / "reference")))
    return contents(tmp_path / "reference")


@pytest.mark.parametrize("streaming", ["false", "true"])
def test_a_run_stopped_at_any_file_goes_on_to_the_same_files(
    encode_options, tmp_path, monkeypatch, streaming
):
    import encode_latents
    from encoding import work

    def options(name):
        return encode_options(*OPTIONS, "--streaming", streaming, "--output_dir", str(tmp_path / name))

    encode_latents.main(options("reference"))
    write, attempts, left = work.write_file, 0, 0

    def write_or_die(path, action):
        nonlocal left
        if "processes" not in path.parts:  # signs of life come by the clock
            left -= 1
            if left < 0:
                raise Killed
        write(path, action)

    monkeypatch.setattr(work, "write_file", write_or_die)
    while not (tmp_path / "latents" / "latents.json").exists():
        attempts, left = attempts + 1, 4 if attempts % 2 else 3
        try:
            encode_latents.main(options("latents"))
        except Killed:
            assert not (tmp_path / "latents").exists()
    assert attempts > 4
    assert contents(tmp_path / "latents") == contents(tmp_path / "reference")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latents", "reference"]


def test_a_dataset_that_only_lacks_its_name_gets_it(uninterrupted, encode_options, tmp_path, monkeypatch):
    import encode_latents

    (tmp_path / "reference").rename(tmp_path / "latents.incomplete")
    (tmp_path / "latents.incomplete" / ".latents-00000.parquet.17.tmp").write_bytes(b"cut")
    monkeypatch.setattr(encode_latents, "Worker", None)
    encode_latents.main(encode_options(*OPTIONS))
    assert contents(tmp_path / "latents") == uninterrupted


def test_what_was_moved_aside_returns_when_its_replacement_did_not_come(
    uninterrupted, encode_options, tmp_path
):
    import encode_latents

    (tmp_path / "reference").rename(tmp_path / "latents.replaced")
    with pytest.raises(SystemExit):  # other settings, and no --overwrite
        encode_latents.main(encode_options())
    assert contents(tmp_path / "latents") == uninterrupted


def test_a_unit_has_one_owner_until_the_processes_are_gone(tmp_path):
    from encoding.work import WorkFolder

    first, second = WorkFolder(tmp_path / "latents"), WorkFolder(tmp_path / "latents")
    first.begin({"settings": {}})
    owners = [(first.claim(unit), second.claim(unit)) for unit in range(3)]
    assert owners == [(True, False)] * 3
    first.finish_unit(0, 1)
    second.begin({"settings": {}})
    assert [second.claim(unit) for unit in range(3)] == [False, True, True]


def test_the_main_process_notices_who_failed_and_who_is_silent(tmp_path):
    from encoding.processes import Heartbeat, ProcessLost, ProcessWatch

    watch = ProcessWatch(tmp_path, 2, lost_after=0.05)
    with Heartbeat(tmp_path, 0) as heartbeat:
        heartbeat.begin_work().clips = 3
    with pytest.raises(OSError), Heartbeat(tmp_path, 1):
        watch.look()
        raise OSError("disk full")
    with pytest.raises(ProcessLost, match="process 1 stopped: disk full"):
        watch.look()

    watch = ProcessWatch(tmp_path, 1, lost_after=0.05)
    assert watch.look()[0].clips == 3
    time.sleep(0.1)
    assert watch.look()[0].state == "done"  # who is done may be silent

    watch = ProcessWatch(tmp_path / "nowhere", 2, lost_after=0.05)
    watch.look()
    time.sleep(0.1)
    with pytest.raises(ProcessLost, match="process 0 has given no sign of life"):
        watch.look()


def test_progress_is_that_of_all_processes():
    from encoding.processes import Progress
    from encoding.report import progress_line

    both = [
        Progress(clips=30, audio_seconds=60.0, waited=1.0, seconds=10.0),
        Progress(clips=10, audio_seconds=40.0, waited=1.0, seconds=10.0, state="done"),
    ]
    line = progress_line(both, clips_before=20, total=100)
    assert line.startswith("clips 60/100 | 4.00 clips/s | 10.0 s of audio/s | data wait 10% | 10 s left")
    assert line.endswith("1 of 2 processes at work")


TOGETHER = """
import os, signal, sys, time
sys.path.insert(0, {training!r})
import encode_latents
from encoding import work
finish_part = work.WorkFolder.finish_part

def finish_part_of_several(self, *rest):
    while len(list(self.state.glob("claims/*"))) < 2:  # both processes have begun
        time.sleep(0.01)
    if {die} and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    finish_part(self, *rest)

work.WorkFolder.finish_part = finish_part_of_several
signal.signal(signal.SIGTERM, encode_latents.stop)
encode_latents.main(sys.argv[1:])
"""


def two_processes(script, options):
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    return subprocess.run(
        [sys.executable, *launcher, str(script), *options],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )


@pytest.mark.slow
def test_two_processes_write_what_one_writes_though_one_was_killed(uninterrupted, encode_options, tmp_path):
    script, training = tmp_path / "together.py", str(ROOT / "training")
    script.write_text(TOGETHER.format(training=training, die=True))
    killed = two_processes(script, encode_options(*OPTIONS))
    assert killed.returncode != 0 and not (tmp_path / "latents").exists()
    assert "the same command goes on with what is missing" in killed.stderr

    script.write_text(TOGETHER.format(training=training, die=False))
    parts = tmp_path / "latents.incomplete" / "state" / "parts"
    for path in sorted(parts.glob("*.json"))[2:]:  # leave something for both
        path.unlink()
    shutil.rmtree(parts.with_name("units"))
    ended = two_processes(script, encode_options(*OPTIONS))
    assert ended.returncode == 0, ended.stderr
    assert "clips 9/9" in ended.stdout and "0 of 2 processes at work" in ended.stdout
    assert ended.stdout.count("18 rows") == 1
    assert contents(tmp_path / "latents") == uninterrupted
