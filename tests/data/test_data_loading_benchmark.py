"""The benchmark compares readers that give the same crops, and notices when they do not."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from star_hf.data import CropReader, CropSettings, load_audio_dataset

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark():
    sys.path.insert(0, str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("data_loading", BENCHMARKS / "data_loading.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(autouse=True)
def _the_cache_is_restored(monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", datasets.config.HF_DATASETS_CACHE)


def test_one_row_for_each_way_to_read_the_clips(benchmark, tmp_path, capsys):
    options = "--clips 4 --seconds 1 --crop_samples 8192 --batch_size 2 --num_workers 0 1 --formats flac"
    more = f"--containers tar --measure_seconds 0.05 --json {tmp_path / 'result.json'}"
    benchmark.main(f"{options} {more}".split())
    document = json.loads((tmp_path / "result.json").read_text())
    rows = document["results"]
    assert [(row["container"], row["streaming"], row["num_workers"]) for row in rows] == [
        ("tar", False, 0),
        ("tar", False, 1),
        ("tar", True, 0),
        ("tar", True, 1),
    ]
    for row in rows:
        assert row["audio_seconds_per_second"] == pytest.approx(row["clips_per_second"] * 8192 / 44100)
        assert row["ratio"] == pytest.approx(row["clips_per_core"] / row["whole_per_core"])
    assert len(capsys.readouterr().out.splitlines()) == 3 + len(rows)


def test_readers_that_differ_are_not_compared(benchmark, tmp_path):
    places = benchmark.write_clips(tmp_path, "flac", clips=2, seconds=1.0)
    dataset = load_audio_dataset(places["folder"])
    whole = benchmark.WholeClipReader(4096)
    same, other = (
        CropReader(CropSettings(num_samples=4096, gain_db=gain), benchmark.SAMPLING_RATE, 2)
        for gain in (0.0, 6.0)
    )
    benchmark.check(dataset, (same, whole), 2, 1e-6)
    with pytest.raises(ValueError, match="crops differ from those of the whole clips by"):
        benchmark.check(dataset, (other, whole), 2, 1e-6)


@pytest.mark.parametrize("option", ["--clips 0", "--measure_seconds -1", "--num_workers -1"])
def test_wrong_options_are_refused(benchmark, option, capsys):
    with pytest.raises(SystemExit):
        benchmark.main(option.split())
    assert "must be" in capsys.readouterr().err
