"""The clips to encode: units hold every row once, and the fingerprint follows the data alone."""

import shutil
from itertools import takewhile

import pytest
from datasets import Dataset

from star_hf.data import load_audio_dataset


def arguments(source, **changes):
    from encoding.arguments import EncodeArguments

    return EncodeArguments(vae="vae", source=str(source), output_dir="latents", **changes)


def fingerprint(source, **changes):
    from encoding.source import dataset_fingerprint, open_source

    chosen = arguments(source, **changes)
    return dataset_fingerprint(open_source(chosen).dataset, chosen)


def keyed_rows(source, first=0):
    """Key and file name of every row, part by part, from the part `first` of each unit on."""
    parts = []
    for unit in range(source.num_units):
        for rows in source.parts(unit, first):
            part = [(key, row["file_name"]) for key, row in rows]
            if not part:
                break
            parts.append(part)
    return parts


@pytest.mark.parametrize(("rows_per_shard", "sizes"), [(None, [1] * 9), (4, [4, 4, 1]), (9, [9]), (20, [9])])
def test_units_of_a_table_are_ranges_of_its_rows(recordings, rows_per_shard, sizes):
    from encoding.source import open_source

    source = open_source(arguments(recordings, rows_per_shard=rows_per_shard))
    parts = keyed_rows(source)
    assert [len(part) for part in parts] == sizes
    assert sum(parts, []) == [((index,), f"{index}.wav") for index in range(9)]


def test_large_tables_have_large_files_and_small_ones_many():
    from encoding.source import TableSource

    sizes = {rows: TableSource(range(rows), None).rows_per_shard for rows in (9, 320, 16_000, 1_000_000)}
    assert sizes == {9: 1, 320: 10, 16_000: 500, 1_000_000: 500}
    assert TableSource(range(320), None).num_units == 32


@pytest.mark.parametrize("rows_per_shard", [1, 2, 3])
def test_units_of_a_stream_are_its_shards_and_can_be_entered_later(recordings, rows_per_shard):
    from encoding.source import StreamSource

    stream = load_audio_dataset(recordings).to_iterable_dataset(num_shards=2)
    source = StreamSource(stream, rows_per_shard)
    parts = keyed_rows(source)
    assert sum(parts, []) == [
        ((unit, position), f"{position + 5 * unit}.wav")
        for unit, size in enumerate((5, 4))
        for position in range(size)
    ]
    skipped = [[part for part in parts if part[0][0][0] == unit][1:] for unit in range(2)]
    assert keyed_rows(source, first=1) == sum(skipped, [])
    names = {source.part_name(0, part) for part in range(2)}
    assert source.finished_parts(0, names.__contains__) == 2
    assert source.finished_parts(1, names.__contains__) == 0


def test_the_fingerprint_is_the_same_wherever_the_folder_lies(recordings, tmp_path, monkeypatch):
    before = fingerprint(recordings)
    shutil.copytree(recordings, tmp_path / "elsewhere")
    assert fingerprint(tmp_path / "elsewhere") == before
    monkeypatch.chdir(tmp_path)
    assert fingerprint("elsewhere") == before


def append_silence(folder):
    with (folder / "3.wav").open("ab") as file:
        file.write(bytes(100))


def change_one_sample(folder):
    content = bytearray((folder / "3.wav").read_bytes())
    content[-100] ^= 1
    (folder / "3.wav").write_bytes(content)


def rename(folder):
    (folder / "3.wav").rename(folder / "30.wav")
    metadata = folder / "metadata.csv"
    metadata.write_text(metadata.read_text().replace("\n3.wav", "\n30.wav"))


def caption_otherwise(folder):
    metadata = folder / "metadata.csv"
    metadata.write_text(metadata.read_text().replace("2.wav,white noise", "2.wav,a waterfall"))


def swap_two_rows(folder):
    metadata = folder / "metadata.csv"
    header, first, second, *rest = metadata.read_text().splitlines()
    metadata.write_text("\n".join([header, second, first, *rest]) + "\n")


def remove_one(folder):
    metadata = folder / "metadata.csv"
    metadata.write_text(
        "\n".join(takewhile(lambda line: not line.startswith("8"), metadata.read_text().split("\n")))
    )


@pytest.mark.parametrize(
    "change", [append_silence, change_one_sample, rename, caption_otherwise, swap_two_rows, remove_one]
)
def test_the_fingerprint_follows_audio_captions_and_order(recordings, tmp_path, change):
    folder = tmp_path / "changed"
    shutil.copytree(recordings, folder)
    before = fingerprint(folder)
    change(folder)
    assert fingerprint(folder) != before


def test_the_fingerprint_covers_columns_that_are_kept_and_no_others(recordings):
    assert fingerprint(recordings) != fingerprint(recordings, keep_columns=["label"])
    assert fingerprint(recordings, keep_columns=["label"]) != fingerprint(recordings, keep_columns=["group"])
    assert fingerprint(recordings, text_column=None) != fingerprint(recordings)


def test_audio_inside_of_a_table_counts_by_name_size_and_content(recordings, tmp_path):
    rows = [
        {"audio": {"bytes": path.read_bytes(), "path": path.name}, "text": path.stem}
        for path in sorted(recordings.glob("*.wav"))
    ]

    def of(rows):
        Dataset.from_list(rows).to_parquet(str(tmp_path / "rows.parquet"))
        return fingerprint(tmp_path / "rows.parquet")

    before = of(rows)
    assert of(rows) == before
    original = rows[4]["audio"]
    rows[4]["audio"] = {**original, "bytes": original["bytes"] + b"\0"}
    assert of(rows) != before
    rows[4]["audio"] = {**original, "bytes": original["bytes"][:-1] + b"\1"}
    assert of(rows) != before
    rows[4]["audio"] = {**original, "path": "other.wav"}
    assert of(rows) != before


def test_a_stream_is_known_by_its_shards_and_its_first_row(recordings, tmp_path):
    before = fingerprint(recordings, streaming=True)
    assert fingerprint(recordings, streaming=True) == before != fingerprint(recordings)
    folder = tmp_path / recordings.name
    shutil.copytree(recordings, folder)
    assert fingerprint(folder, streaming=True) == before
    change = (folder / "0.wav").read_bytes()
    (folder / "0.wav").write_bytes(change[:-1] + bytes([change[-1] ^ 1]))
    assert fingerprint(folder, streaming=True) != before
