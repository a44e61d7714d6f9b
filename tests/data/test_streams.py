"""Streams: every row once per pass and process group, in a new order, and resumed exactly from any item."""

import json
from itertools import islice

import numpy as np
import pytest
from datasets import Dataset, IterableDataset

from star_hf.audio import AudioError
from star_hf.data import (
    ClipStream,
    MixedStream,
    ShuffledRows,
    TooManyBadFiles,
    UnwantedClip,
    load_audio_dataset,
)


class Reader:
    """An item of a row's text and one random number; rows named in `bad` cannot be read."""

    columns, audio_column = ["audio", "text"], "audio"

    def __init__(self, bad=(), unwanted=()):
        self.bad, self.unwanted = bad, unwanted

    def __call__(self, row, random):
        if row["text"] in self.bad:
            raise AudioError(f"{row['audio']['path']}: is broken")
        if row["text"] in self.unwanted:
            raise UnwantedClip("mono")
        return {"text": row["text"], "drawn": int(random.integers(2**60))}


def shuffled(source, **options):
    dataset = source
    if not hasattr(source, "features"):
        dataset = load_audio_dataset(source, text_column="text", streaming=True)
    return ShuffledRows(dataset, **{"block_size": 4, **options})


def texts(rows, count, **options):
    return [row.row["text"] for row in islice(rows.rows(**options), count)]


EVERYTHING = sorted(f"text {index}" for index in range(10))


@pytest.mark.parametrize("kind", ["files", "tars", "parquet"])
def test_every_pass_has_each_row_once_and_an_order_of_its_own(clip_sources, kind):
    rows = shuffled(clip_sources[kind], seed=1)
    passes = np.reshape(texts(rows, 60), (6, 10)).tolist()
    assert all(sorted(order) == EVERYTHING for order in passes)
    assert len({tuple(order) for order in passes}) == 6
    assert texts(shuffled(clip_sources[kind], seed=1), 60) == sum(passes, [])
    assert texts(shuffled(clip_sources[kind], seed=2), 60) != sum(passes, [])
    # without blocks, only the shards change places
    passes = np.reshape(texts(shuffled(clip_sources[kind], block_size=1), 60), (6, 10)).tolist()
    assert len({tuple(order) for order in passes}) > 2
    if kind != "files":
        assert all(order[order.index("text 3") :][:3] == EVERYTHING[3:6] for order in passes)


@pytest.mark.parametrize("kind", ["files", "tars", "parquet"])
@pytest.mark.parametrize("world_size", [1, 2])
def test_a_stream_is_resumed_from_every_item_as_if_uninterrupted(clip_sources, kind, world_size):
    def stream():
        rows = shuffled(clip_sources[kind], seed=3, rank=world_size - 1, world_size=world_size)
        return ClipStream(rows, Reader(bad=["text 4"]))

    def split(items):
        # what datasets writes into its state differs by how it was come to
        positions = [json.loads(json.dumps(item.pop("position"))) for item in items]
        return list(items), positions

    whole, positions = split(list(islice(stream().items(), 26)))
    for count in range(len(whole) - 6):
        once, later = split(list(islice(stream().items(position=positions[count]), 3)))
        assert once == whole[count + 1 : count + 4]
        twice, _ = split(list(islice(stream().items(position=later[1]), 3)))
        assert twice == whole[count + 3 : count + 6]
    assert len(json.dumps(positions[-1])) < 1000


@pytest.mark.parametrize("kind", ["tars", "parquet"])
@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_processes_share_a_pass_whatever_the_number_of_shards(clip_sources, kind, world_size):
    """Three shards: fewer than the processes, as many, and not a multiple."""
    seen = []
    for rank in range(world_size):
        rows = shuffled(clip_sources[kind], rank=rank, world_size=world_size)
        own = list(islice(rows.rows(), 30))
        for epoch in range(2):
            seen += [(epoch, row.row["text"]) for row in own if row.key[0] == epoch]
        assert own[-1].key[0] > 1  # one with fewer rows goes on to its next pass
    assert sorted(seen) == [(epoch, text) for epoch in range(2) for text in EVERYTHING]


def test_no_more_rows_than_the_block_are_in_memory():
    read = []

    def generate():
        for index in range(40):
            read.append(index)
            yield {"text": str(index)}

    rows = shuffled(IterableDataset.from_generator(generate), block_size=8).rows()
    for given in range(1, 30):
        next(rows)
        assert len(read) <= given + 8


def test_a_share_without_rows_is_an_error_rather_than_a_hang():
    dataset = Dataset.from_dict({"text": ["a", "b"]}).to_iterable_dataset(num_shards=2)
    with pytest.raises(ValueError, match="'tiny' has no rows for process 2 of 3"):
        next(shuffled(dataset, rank=2, world_size=3, name="tiny").rows())
    with pytest.raises(ValueError, match="block_size must be at least 1"):
        shuffled(dataset, block_size=0)


def test_bad_rows_are_replaced_and_reported_with_the_next_item(clip_sources):
    bad = [f"text {index}" for index in range(6)]
    rows = shuffled(clip_sources["tars"], name="tones")
    items = list(islice(ClipStream(rows, Reader(bad=bad)).items(), 8))
    assert sorted(item["text"] for item in items[:4]) == EVERYTHING[6:]
    failures = [failure for item in items for failure in item["failures"]]
    assert {failure.name for failure in failures} == {f"clip{index}.flac" for index in range(6)}
    assert set(failures[0][1:]) == {"is broken", "tones"}
    with pytest.raises(TooManyBadFiles, match="32 files in a row"):
        next(ClipStream(rows, Reader(bad=EVERYTHING)).items())


def test_held_out_and_unwanted_rows_do_not_come(clip_sources):
    rows = shuffled(clip_sources["parquet"])

    def held_out(row):
        return row["text"] == "text 2"

    items = islice(ClipStream(rows, Reader(unwanted=["text 5"]), held_out).items(), 16)
    assert sorted({item["text"] for item in items}) == sorted(set(EVERYTHING) - {"text 2", "text 5"})
    with pytest.raises(ValueError, match="gives no clip: all rows are held out"):
        next(ClipStream(rows, Reader(), lambda row: True).items())
    with pytest.raises(ValueError, match="gives no clip: mono"):
        next(ClipStream(rows, Reader(unwanted=EVERYTHING)).items())


def test_streams_are_mixed_by_their_weights_and_resumed(clip_sources):
    other = Dataset.from_list(
        [{"audio": {"path": "x", "bytes": b""}, "text": text} for text in "abc"]
    ).to_iterable_dataset(num_shards=3)

    def mixture(positions=None):
        streams = [
            ClipStream(shuffled(clip_sources["tars"]), Reader()),
            ClipStream(shuffled(other, seed=1), Reader()),
        ]
        return MixedStream(streams, [1, 3], seed=4, positions=positions)

    items = list(islice(mixture(), 200))
    letters = [item["text"] for item in items if len(item["text"]) == 1]
    assert len(letters) == pytest.approx(150, abs=20)
    assert all(sorted(letters[at : at + 3]) == ["a", "b", "c"] for at in range(0, 135, 3))
    for count in (0, 1, 2, 3, 50, 117):
        worker, place = json.loads(json.dumps(items[count]["position"]))
        assert worker == 0
        resumed = islice(mixture([place]), 20)
        assert [item["drawn"] for item in resumed] == [
            item["drawn"] for item in items[count + 1 : count + 21]
        ]
    assert len({item["noise_seed"] for item in items}) == 200
    with pytest.raises(ValueError, match="greater than 0"):
        MixedStream(mixture().streams, [1, 0])
