"""Tiles must give the untiled result before their memory means anything."""

import pytest


@pytest.fixture
def memory(load):
    return load("memory")


def test_tiles_that_change_nothing_pass(memory):
    errors = memory.compare_tiles("tiny", 4.0, 1.0, "cpu")
    assert set(errors) == {"encode", "decode"}
    assert all(0 <= error < 1e-5 for error in errors.values())


@pytest.mark.parametrize("half", ["encode", "decode"])
def test_tiles_that_change_the_result_are_refused(memory, monkeypatch, half):
    make = memory.make_autoencoder

    def without_overlap(size):
        vae = make(size)
        setattr(vae, f"_{half}r_reach", 0)
        return vae

    monkeypatch.setattr(memory, "make_autoencoder", without_overlap)
    monkeypatch.setattr("star_hf.autoencoder.autoencoder_star.GRID_STEPS", 1)
    with pytest.raises(ValueError, match=f"tiled {half} of tiny differs from untiled"):
        memory.compare_tiles("tiny", 4.0, 1.0, "cpu")


def test_a_length_of_one_tile_proves_nothing(memory):
    with pytest.raises(ValueError, match="--check-seconds 1 is less than two tiles of 22 frames"):
        memory.compare_tiles("tiny", 1.0, 1.0, "cpu")


def test_longer_audio_takes_more_where_it_is_not_tiled(memory):
    short, long = (
        memory.peak_of("tiny", "encode", seconds, False, None, "cpu", "float32")[0] for seconds in (1.0, 5.0)
    )
    assert long > 2 * short


@pytest.mark.slow
def test_diffusers_loses_frames(memory):
    sentence = memory.frames_lost_by_diffusers()
    assert "encodes 70 s to 1505 frames, untiled to 1507" in sentence
