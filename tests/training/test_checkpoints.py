"""Folders that are complete or absent, and a limited number of checkpoints."""

from pathlib import Path

import pytest
from accelerate import Accelerator


@pytest.fixture
def accelerator():
    return Accelerator(cpu=True)


def fill(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(b"weights")


def test_only_the_last_complete_checkpoints_are_kept(tmp_path, accelerator):
    from engine.checkpoints import Checkpoints, read_state

    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 10):
        checkpoints.save({"step": step}, fill, accelerator)
    assert [path.name for path in checkpoints.complete()] == ["step_00000002", "step_00000010"]
    assert read_state(checkpoints.latest()) == {"step": 10}
    assert len(list(tmp_path.iterdir())) == 2


def test_a_failing_write_leaves_the_older_checkpoint(tmp_path, accelerator):
    from engine.checkpoints import CheckpointError, Checkpoints

    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save({"step": 1}, fill, accelerator)

    def fail(folder):
        fill(folder)
        raise OSError("No space left on device")

    with pytest.raises(CheckpointError, match="step_00000002.*No space left"):
        checkpoints.save({"step": 2}, fail, accelerator)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001"]


def test_a_folder_without_state_is_no_checkpoint(tmp_path):
    from engine.checkpoints import Checkpoints

    (tmp_path / "step_00000003").mkdir()
    assert Checkpoints(tmp_path, keep=1).latest() is None


def test_a_replaced_folder_holds_the_old_or_the_new_content(tmp_path):
    from engine.checkpoints import atomic_folder

    target = tmp_path / "export"
    with atomic_folder(target) as folder:
        (folder / "a").write_text("old")
    with pytest.raises(RuntimeError), atomic_folder(target) as folder:
        (folder / "a").write_text("half")
        raise RuntimeError
    assert (target / "a").read_text() == "old"
    with atomic_folder(target) as folder:
        (folder / "b").write_text("new")
    assert [path.name for path in tmp_path.rglob("*")] == ["export", "b"]


@pytest.mark.parametrize("operations", range(6))
def test_a_kill_at_any_moment_of_a_replacement_is_recovered(tmp_path, monkeypatch, operations):
    from engine import checkpoints
    from engine.checkpoints import atomic_folder, recover

    class Killed(BaseException):
        pass

    done = []

    def until_killed(operation):
        def run(*arguments, **keywords):
            if len(done) == operations:
                raise Killed
            operation(*arguments, **keywords)
            done.append(operation)

        return run

    target = tmp_path / "export"
    with atomic_folder(target) as folder:
        (folder / "a").write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.os, "rename", until_killed(checkpoints.os.rename))
        patch.setattr(checkpoints.shutil, "rmtree", until_killed(checkpoints.shutil.rmtree))
        with pytest.raises(Killed), atomic_folder(target) as folder:
            (folder / "a").write_text("new")
    recover(tmp_path)
    # remove leftovers, remove leftovers, make room, rename; then the new one is there
    assert (target / "a").read_text() == ("new" if operations >= 4 else "old")
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_keeping_no_checkpoint_is_refused(tmp_path):
    from engine.checkpoints import Checkpoints

    with pytest.raises(ValueError, match="keep_last must be at least 1, got 0"):
        Checkpoints(tmp_path, keep=0)
