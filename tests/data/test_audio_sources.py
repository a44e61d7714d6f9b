"""Local folders, Parquet and saved datasets all open with undecoded audio and their columns."""

import json
import sys
import tarfile

import numpy as np
import pytest
import soundfile
from datasets import Audio, Dataset, IterableDataset

from star_hf.audio import AudioError, read_audio
from star_hf.data import (
    HeldOutRows,
    audio_name,
    audio_source,
    load_audio_dataset,
    load_undecoded,
    split_for_validation,
)


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


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", ["tars", "parquet"])
def test_shards_are_opened_by_folder_file_and_pattern(clip_sources, kind, streaming):
    folder = clip_sources[kind]
    suffix = {"tars": "tar", "parquet": "parquet"}[kind]
    expected = {
        folder: range(10),
        folder / f"train-0.{suffix}": range(3),
        folder / f"train-[12].{suffix}": range(3, 10),
    }
    for source, indices in expected.items():
        rows = list(load_audio_dataset(source, text_column="text", streaming=streaming))
        assert [row["text"] for row in rows] == [f"text {index}" for index in indices]
        assert audio_name(rows[0]["audio"], 0) == f"clip{indices[0]}.flac"
        waveform, rate = read_audio(audio_source(rows[0]["audio"]))
        assert rate == 8000 and float(waveform[0, 0]) == (indices[0] + 1) / 32


@pytest.mark.parametrize("streaming", [False, True])
def test_the_keys_of_json_in_a_tar_are_columns(clip_sources, streaming):
    dataset = load_audio_dataset(clip_sources["tars"], text_column="title", streaming=streaming)
    assert set(dataset.column_names) == {"audio", "txt", "title", "tags", "__key__", "__url__"}
    rows = list(dataset)
    assert [row["title"] for row in rows] == [f"title {index}" for index in range(10)]
    assert rows[7]["tags"] == ["a", "b7"] and rows[7]["__key__"] == "clip7"
    with pytest.raises(ValueError, match="text_column 'caption' is not in"):
        load_audio_dataset(clip_sources["tars"], text_column="caption", streaming=streaming)


def test_a_tar_with_two_audio_files_per_clip_needs_the_column(tmp_path):
    write(tmp_path / "clip.wav")
    with tarfile.open(tmp_path / "two.tar", "w") as tar:
        tar.add(tmp_path / "clip.wav", "clip.left.wav")
        tar.add(tmp_path / "clip.wav", "clip.right.wav")
    with pytest.raises(ValueError, match="audio_column 'audio' is not in .* are .*left.wav, right.wav"):
        load_audio_dataset(tmp_path / "two.tar", streaming=True)
    dataset = load_audio_dataset(tmp_path / "two.tar", audio_column="right.wav")
    assert read_audio(audio_source(dataset[0]["right.wav"]))[0].shape == (1, 800)


@pytest.mark.parametrize("streaming", [False, True])
def test_builders_that_encode_audio_open_without_torchcodec(clip_sources, streaming, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcodec.encoders", None)  # an import of it fails
    dataset = load_undecoded(
        "audiofolder", split="train", data_dir=str(clip_sources["files"]), streaming=streaming
    )
    rows = sorted(dataset, key=lambda row: row["text"])
    assert [row["text"] for row in rows] == [f"text {index}" for index in range(10)]
    assert float(read_audio(audio_source(rows[3]["audio"]))[0][0, 0]) == 4 / 32


def test_an_address_is_fetched_and_what_fails_is_named(tmp_path):
    write(tmp_path / "1.wav")
    assert audio_source(f"file://{tmp_path}/1.wav") == (tmp_path / "1.wav").read_bytes()
    with pytest.raises(AudioError, match="file://.*2.wav: cannot be fetched"):
        audio_source({"path": f"file://{tmp_path}/2.wav", "bytes": None})
    with pytest.raises(AudioError, match="no audio"):
        audio_source({"path": None, "bytes": None})


def test_streaming_parquet_copies_nothing(clip_sources, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    assert load_audio_dataset(clip_sources["parquet"], streaming=True).num_shards == 3
    assert not list((tmp_path / "cache").rglob("*.arrow"))


@pytest.mark.parametrize("streaming", [False, True])
def test_names_and_bytes_are_audio_and_other_columns_are_not(tmp_path, streaming):
    write(tmp_path / "1.wav")
    row = {"name": str(tmp_path / "1.wav"), "data": (tmp_path / "1.wav").read_bytes(), "number": 1}
    Dataset.from_list([row]).to_parquet(str(tmp_path / "rows.parquet"))
    for column in ("name", "data"):
        dataset = load_audio_dataset(tmp_path / "rows.parquet", audio_column=column, streaming=streaming)
        assert read_audio(audio_source(next(iter(dataset))[column]))[0].shape == (1, 800)
    with pytest.raises(ValueError, match="audio_column 'number' of .* must hold audio files, .* got Value"):
        load_audio_dataset(tmp_path / "rows.parquet", audio_column="number", streaming=streaming)


def test_missing_sources_and_columns_are_named(tmp_path):
    write(tmp_path / "full" / "1.wav")
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.txt").write_text("x")
    with pytest.raises(ValueError, match="does not exist"):
        load_audio_dataset(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no audio files"):
        load_audio_dataset(tmp_path / "empty")
    with pytest.raises(ValueError, match="neither a folder, a Parquet file, a tar"):
        load_audio_dataset(tmp_path / "note.txt")
    with pytest.raises(ValueError, match=r"no file matches the source .*\*.tar"):
        load_audio_dataset(tmp_path / "*.tar")
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


def test_names_of_embedded_audio_are_the_key(clip_sources):
    from_files, from_parquet = (
        split_for_validation(load_audio_dataset(clip_sources[kind]), 0.3, key_column="audio")[1]
        for kind in ("files", "parquet")
    )
    assert sorted(from_files["text"]) == sorted(from_parquet["text"])
    assert len(from_files) == 3


def test_rows_of_a_stream_are_held_out_by_their_key_alone():
    rule = HeldOutRows(0.2, "group")
    held_out = {group for group in range(2000) if rule({"group": group})}
    assert 320 < len(held_out) < 480
    assert held_out == {group for group in range(2000) if rule({"group": str(group), "other": 1})}
    more = HeldOutRows(0.4, "group")
    assert all(more({"group": group}) for group in held_out)
    files = HeldOutRows(0.5, "audio")
    for name in map(str, range(20)):
        assert files({"audio": {"path": f"/a/{name}"}}) == files(
            {"audio": {"path": f"b/{name}", "bytes": b"x"}}
        )
    unnamed = {files({"audio": {"path": None, "bytes": bytes([value])}}) for value in range(20)}
    assert unnamed == {True, False}
    assert not HeldOutRows(0.0, "anything")({})
    with pytest.raises(ValueError, match="'group' is not in the dataset, which has text"):
        rule({"text": ""})
    with pytest.raises(ValueError, match="got 1.5"):
        HeldOutRows(1.5, "group")
