"""Local folders, Parquet and saved datasets all open with undecoded audio and their columns."""

import json

import numpy as np
import pytest
import soundfile
from datasets import Audio, Dataset, IterableDataset

from star_hf.audio import read_audio
from star_hf.data import audio_name, audio_source, load_audio_dataset, split_for_validation


def write(path, seconds=0.1):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(int(8000 * seconds)), 8000)


def test_bare_files_take_their_folder_as_label(tmp_path):
    write(tmp_path / "cat" / "b.wav")
    write(tmp_path / "cat" / "a.flac")
    write(tmp_path / "c.wav")
    (tmp_path / "cat" / "notes.txt").write_text("no audio")
    dataset = load_audio_dataset(tmp_path)
    assert dataset["file_name"] == ["c.wav", "cat/a.flac", "cat/b.wav"]
    assert dataset["label"] == ["", "cat", "cat"]
    assert read_audio(audio_source(dataset[1]["audio"]))[0].shape == (1, 800)
    assert audio_name(dataset[1]["audio"], 1) == str(tmp_path / "cat" / "a.flac")


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_metadata_gives_the_columns_and_the_split_folder_is_found(tmp_path, kind):
    write(tmp_path / "train" / "x" / "1.wav")
    rows = [{"file_name": "x/1.wav", "text": "a, b", "label": "x"}]
    if kind == "csv":
        (tmp_path / "train" / "metadata.csv").write_text('file_name,text,label\nx/1.wav,"a, b",x\n')
    else:
        (tmp_path / "train" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    for source in (tmp_path, tmp_path / "train", tmp_path / "train" / f"metadata.{kind}"):
        dataset = load_audio_dataset(source, text_column="text")
        assert (len(dataset), dataset[0]["text"], dataset[0]["label"]) == (1, "a, b", "x")
        assert dataset.features["audio"] == Audio(decode=False)


def test_parquet_with_embedded_audio_and_saved_datasets(tmp_path):
    write(tmp_path / "1.wav")
    data = (tmp_path / "1.wav").read_bytes()
    rows = [{"sound": {"bytes": data, "path": "1.wav"}, "text": "one"}]
    dataset = Dataset.from_list(rows).cast_column("sound", Audio(decode=False))
    (tmp_path / "parquet").mkdir()
    dataset.to_parquet(str(tmp_path / "parquet" / "train-00000-of-00001.parquet"))
    dataset.save_to_disk(str(tmp_path / "saved"))
    for source in ("parquet", "parquet/train-00000-of-00001.parquet", "saved"):
        opened = load_audio_dataset(tmp_path / source, audio_column="sound")
        assert audio_source(opened[0]["sound"]) == data
        assert read_audio(audio_source(opened[0]["sound"]))[0].shape == (1, 800)


def test_streaming_a_local_folder(tmp_path):
    for index in range(5):
        write(tmp_path / f"{index}.wav")
    dataset = load_audio_dataset(tmp_path, streaming=True)
    assert isinstance(dataset, IterableDataset)
    assert sorted(row["file_name"] for row in dataset) == [f"{index}.wav" for index in range(5)]


def test_missing_sources_and_columns_are_named(tmp_path):
    write(tmp_path / "full" / "1.wav")
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.txt").write_text("x")
    with pytest.raises(ValueError, match="does not exist"):
        load_audio_dataset(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no audio files"):
        load_audio_dataset(tmp_path / "empty")
    with pytest.raises(ValueError, match="neither a folder, a Parquet file"):
        load_audio_dataset(tmp_path / "note.txt")
    with pytest.raises(
        ValueError, match="text_column 'caption' is not in .* its columns are audio, file_name"
    ):
        load_audio_dataset(tmp_path / "full", text_column="caption")
    (tmp_path / "full" / "metadata.csv").write_text("file_name,text\n1.wav,one\n,two\n")
    with pytest.raises(ValueError, match="row 2 of .* has no file_name"):
        load_audio_dataset(tmp_path / "full")


def test_validation_split_keeps_groups_together_and_ignores_the_order():
    rows = [{"group": f"g{index // 3}", "row": index} for index in range(60)]
    training, validation = split_for_validation(Dataset.from_list(rows), 0.1, key_column="group")
    assert len(validation) == 6 and len(training) == 54
    assert not set(training["group"]) & set(validation["group"])
    _, reordered = split_for_validation(Dataset.from_list(rows[::-1]), 0.1, key_column="group")
    assert set(reordered["row"]) == set(validation["row"])
    _, reseeded = split_for_validation(Dataset.from_list(rows), 0.1, key_column="group", seed=1)
    assert set(reseeded["group"]) != set(validation["group"])


def test_validation_split_of_files_does_not_depend_on_where_they_lie(tmp_path):
    held_out = []
    for place in ("here", "there/deeper"):
        for index in range(20):
            write(tmp_path / place / f"{index}.wav", seconds=0.01)
        _, validation = split_for_validation(load_audio_dataset(tmp_path / place), 0.2, key_column="audio")
        held_out.append(sorted(validation["file_name"]))
    assert held_out[0] == held_out[1] and len(held_out[0]) == 4


def test_validation_split_refuses_what_leaves_nothing():
    rows = Dataset.from_list([{"group": "a"}, {"group": "a"}])
    with pytest.raises(ValueError, match="leaves nothing to train on"):
        split_for_validation(rows, 0.1, key_column="group")
    with pytest.raises(ValueError, match="'kind' is not in the dataset"):
        split_for_validation(rows, 0.1, key_column="kind")
    with pytest.raises(ValueError, match="got 1.0"):
        split_for_validation(rows, 1.0, key_column="group")
    assert split_for_validation(rows, 0.0, key_column="group")[1] is None
