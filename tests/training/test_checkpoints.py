"""Folders are complete or absent."""

import pytest

from checkpoints import STATE_NAME, Checkpoints, atomic_folder, read_state


def write_weights(folder):
    (folder / "weights").write_text("w")


def test_the_last_n_are_kept_and_the_latest_is_found(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (5, 10, 100):
        checkpoints.save({"step": step}, write_weights)
    assert [path.name for path in checkpoints.complete()] == ["step_00000010", "step_00000100"]
    assert read_state(checkpoints.latest()) == {"step": 100}
    assert sorted(path.name for path in checkpoints.latest().iterdir()) == [STATE_NAME, "weights"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError])
def test_a_failed_write_leaves_nothing_and_loses_nothing(tmp_path, failure):
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save({"step": 1}, write_weights)

    def fail_halfway(folder):
        write_weights(folder)
        raise failure

    with pytest.raises(failure):
        checkpoints.save({"step": 2}, fail_halfway)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001"]


def test_half_written_folders_are_ignored_and_replaced(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=3)
    checkpoints.save({"step": 1}, write_weights)
    (tmp_path / ".incomplete-step_00000002").mkdir()
    (tmp_path / "step_00000002").mkdir()
    assert checkpoints.latest().name == "step_00000001"
    checkpoints.remove_incomplete()
    assert not (tmp_path / ".incomplete-step_00000002").exists()
    checkpoints.save({"step": 2}, write_weights)
    assert read_state(checkpoints.latest()) == {"step": 2}


def test_a_replaced_folder_keeps_its_old_content_until_the_new_is_complete(tmp_path):
    target = tmp_path / "export"
    with atomic_folder(target) as folder:
        (folder / "a").write_text("old")
    with pytest.raises(RuntimeError), atomic_folder(target) as folder:
        (folder / "a").write_text("half")
        raise RuntimeError
    assert (target / "a").read_text() == "old"
    with atomic_folder(target) as folder:
        (folder / "b").write_text("new")
    assert [path.name for path in target.iterdir()] == ["b"]
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
