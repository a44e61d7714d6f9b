"""The loaders of the training scripts: batches, positions, workers, processes, mixtures, held-out clips."""

import json
import pickle
import signal
from itertools import islice

import numpy as np
import pytest
import soundfile
import torch

from engine.arguments import build
from loaders import audio_data
from loaders.audio_data import AudioCaptionLoader, AudioDataArguments, CropLoader
from star_hf.data import TooManyBadFiles, make_loader

RATE = 8000


def loader(cls=CropLoader, channels=2, seed=0, said=None, with_captions=None, **options):
    defaults = {"batch_size": 2, "validation_fraction": 0, "shuffle_buffer": 4, "crops": {"num_samples": 300}}
    arguments = build(AudioDataArguments, {**defaults, **options})
    more = {} if with_captions is None else {"with_captions": with_captions}
    return cls(
        arguments, RATE, channels, seed, said.append if said is not None else lambda line: None, **more
    )


def take(batches, count):
    """Batches that can be compared, and their positions as a checkpoint has them."""
    batches = list(islice(batches, count))
    positions = [json.loads(json.dumps(batch.pop("position", None))) for batch in batches]
    return [{**batch, "waveform": batch["waveform"].tolist()} for batch in batches], positions


def same(first, second):
    return len(first) == len(second) and all(
        one["waveform"] == two["waveform"] and torch.equal(one["noise_seed"], two["noise_seed"])
        for one, two in zip(first, second, strict=True)
    )


def clips(batches):
    """Which clips the batches are from: every sample of clip n is (n + 1) / 32."""
    return [round(clip[0][0] * 32) - 1 for batch in batches for clip in batch["waveform"]]


def test_indexed_clips_go_on_and_are_shared_by_processes(clip_sources):
    crops = loader(source=str(clip_sources["files"]))
    whole, positions = take(crops.batches(0, 0, 1), 15)
    assert positions == [None] * 15
    for epoch in range(3):
        assert sorted(clips(whole[5 * epoch : 5 * epoch + 5])) == list(range(10))
    again, _ = take(loader(source=str(clip_sources["files"])).batches(12, 0, 1), 9)
    assert same(again, whole[6:])
    shares = [take(crops.batches(4, rank, 2), 4)[0] for rank in range(2)]
    in_turn = [clip for pair in zip(*map(clips, shares), strict=True) for clip in pair]
    assert in_turn == clips(whole)[4:20]
    seeds = [torch.cat([batch["noise_seed"] for batch in share]) for share in shares]
    assert torch.equal(
        torch.stack(seeds, 1).flatten(), torch.cat([batch["noise_seed"] for batch in whole])[4:20]
    )


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_a_stream_goes_on_after_any_batch_bit_by_bit(clip_sources, num_workers):
    options = {"streaming": True, "num_workers": num_workers}
    options["crops"] = {"num_samples": 300, "gain_db": 6, "swap_channels": True}

    def stream(position=None, start=0):
        return loader(source=str(clip_sources["tars"]), **options).batches(start, 0, 1, position)

    whole, positions = take(stream(), 18)
    # within a block, at its end, in another pass, after the batch of either worker
    for count in (0, 1, 4, 7, 10):
        resumed, later = take(stream(positions[count], start=2 * (count + 1)), 3)
        assert same(resumed, whole[count + 1 : count + 4])
        again, _ = take(stream(later[1]), 3)
        assert same(again, whole[count + 3 : count + 6])


def test_workers_and_processes_read_each_file_once_per_pass(clip_sources):
    """Three shards for two processes that are to have four workers: uneven, and not enough for them."""
    said = []
    seen = []
    for rank in range(2):
        crops = loader(
            source=str(clip_sources["parquet"]), streaming=True, num_workers=4, batch_size=1, said=said
        )
        batches = list(islice(crops.batches(0, rank, 2), 16))
        passes = {}
        for batch in batches:
            position = batch["position"]
            worker = (position["next"] - 1) % position["num_workers"]
            epoch = position["workers"][worker]["streams"][0]["epoch"]
            passes.setdefault((worker, epoch), []).append(batch["waveform"][0, 0, 0].item())
        seen += [value for (_, epoch), values in passes.items() if epoch == 0 for value in values]
    assert sorted(round(value * 32) - 1 for value in seen) == list(range(10))
    assert sum(" instead of 4: a process has no more shards" in line for line in said) == 2


def test_a_changed_setting_begins_a_fresh_pass_and_says_so(clip_sources):
    options = {"source": str(clip_sources["tars"]), "streaming": True}
    before, positions = take(loader(**options).batches(0, 0, 1), 5)
    said = []
    changed = loader(**options, said=said).batches(10, 1, 2, positions[-1])
    batches, _ = take(changed, 5)
    assert set(clips(batches)) <= set(range(10))
    assert "fresh pass, since num_processes 1 became 2, rank 0 became 1" in said[-1]
    fresh, _ = take(loader(**options, said=said).batches(10, 0, 1, None), 5)
    assert sorted(clips(fresh)) == list(range(10)) and not same(fresh, before)
    assert len(said) == 3  # and nothing is said where there is nothing to continue


def test_the_held_out_clips_of_a_stream_are_not_trained_on(clip_sources):
    options = {"source": str(clip_sources["tars"]), "streaming": True, "validation_fraction": 0.3}
    crops = loader(**options)
    held_out = [round(float(clip[0, 0, 0]) * 32) - 1 for clip in crops.held_out()]
    batches, _ = take(crops.batches(0, 0, 1), 20)
    assert held_out and set(clips(batches)) == set(range(10)) - set(held_out)
    assert [float(clip[0, 0, 0]) for clip in crops.held_out()] == [(index + 1) / 32 for index in held_out]
    assert len(list(loader(**options, validation_clips=1).held_out())) == 1
    by_text = loader(**{**options, "validation_key": "txt"})
    for clip in by_text.held_out():
        assert clip.shape == (1, 2, 2048) and clip[..., :400].all() and not clip[..., 400:].any()
    with pytest.raises(ValueError, match="validation key column 'group' is not in the dataset"):
        loader(**{**options, "validation_key": "group"})


@pytest.mark.parametrize("streaming", [False, True])
def test_datasets_are_mixed_by_weight_with_what_is_their_own(clip_sources, tmp_path, streaming):
    said = []
    sources = {
        "tones": {"source": str(clip_sources["tars"]), "weight": 3, "templates": ["{title}"]},
        "shards": {"source": str(clip_sources["parquet"]), "text_column": "text"},
    }
    options = {"sources": sources, "captions": {"dropout": 0}, "streaming": streaming, "batch_size": 10}
    mixed = loader(AudioCaptionLoader, said=said, **options)
    batches = list(islice(mixed.batches(0, 0, 1), 40))
    texts = [text.split()[0] for batch in batches for text in batch["text"]]
    assert texts.count("title") == pytest.approx(300, abs=30) and texts.count("text") == 400 - texts.count(
        "title"
    )
    assert len({seed for batch in batches for seed in batch["noise_seed"].tolist()}) == 400
    if not streaming:
        assert said == [
            "tones: 10 clips to train on, 0 held out, 75.0% of the samples",
            "shards: 10 clips to train on, 0 held out, 25.0% of the samples",
        ]
    position = json.loads(json.dumps(batches[4].get("position")))
    resumed = islice(loader(AudioCaptionLoader, **options).batches(50, 0, 1, position), 5)
    assert [batch["text"] for batch in resumed] == [batch["text"] for batch in batches[5:10]]


def test_captioned_clips_are_padded_and_known_by_their_length(clip_sources, tmp_path):
    for seconds in (0.1, 0.3, 1.0):
        samples = np.arange(int(seconds * RATE)) / RATE
        soundfile.write(tmp_path / f"{seconds}.wav", samples, RATE, subtype="FLOAT")
    options = {"source": str(tmp_path), "text_column": "label", "max_seconds": 0.4, "batch_size": 3}
    clip_loader = loader(AudioCaptionLoader, channels=1, captions={"templates": ["{file_name}"]}, **options)
    first = set()
    for batch in islice(clip_loader.batches(0, 0, 1), 40):
        assert batch["waveform"].shape == (3, 1, 4096) and batch["num_samples"].dtype == torch.int64
        assert sorted(batch["num_samples"].tolist()) == [800, 2400, 3200]
        for waveform, length, text in zip(
            batch["waveform"][:, 0], batch["num_samples"], batch["text"], strict=True
        ):
            assert not waveform[length:].any()
            if text == "1.0.wav":
                torch.testing.assert_close(waveform[:length], waveform[0] + torch.arange(int(length)) / RATE)
                first.add(float(waveform[0]))
            elif text:
                assert length == float(text.removesuffix(".wav")) * RATE and waveform[0] == 0
    assert len(first) > 30 and max(first) > 0.5
    dropped = loader(AudioCaptionLoader, channels=1, captions={"dropout": 1.0}, **options)
    assert next(iter(dropped.batches(0, 0, 1)))["text"] == ["", "", ""]
    with pytest.raises(ValueError, match="names 'caption', which is not a column of"):
        loader(AudioCaptionLoader, **{**options, "text_column": "caption"})


def test_held_out_captioned_clips_are_always_the_same(clip_sources):
    options = {"source": str(clip_sources["files"]), "validation_fraction": 0.5, "validation_clips": 3}
    first, second = (
        list(loader(AudioCaptionLoader, seed=seed, captions={"dropout": 0.9}, **options).held_out())
        for seed in (0, 1)
    )
    assert [len(batch["text"]) for batch in first] == [2, 1]
    for one, two in zip(first, second, strict=True):
        assert one["text"] == two["text"] and all(one["text"])
        assert torch.equal(one["waveform"], two["waveform"])
        assert torch.equal(one["noise_seed"], two["noise_seed"])
        assert [f"text {round(float(clip[0, 0]) * 32) - 1}" for clip in one["waveform"]] == one["text"]


@pytest.mark.parametrize("kind", ["files", "cached", "stream", "mix", "mixed stream"])
def test_captions_beside_crops_do_not_change_the_crops(clip_sources, kind):
    """The same random numbers choose the crop, its gains and its noise; the caption is of the crop's clip."""
    options = {"source": str(clip_sources["parquet" if kind == "stream" else "files"])}
    if "mix" in kind:
        options = {
            "sources": {
                "tones": {"source": str(clip_sources["tars"]), "templates": ["the {title}", "{tags}"]},
                "shards": {"source": str(clip_sources["parquet"])},
            },
            "captions": {"templates": ["a {text}"]},
        }
    options |= {"streaming": "stream" in kind, "cache_audio": kind == "cached", "batch_size": 5}
    options["crops"] = {
        "num_samples": 300,
        "gain_db": 1,
        "swap_channels": True,
        "silence_db": -20,
        "silence_retries": 2,
    }
    plain, positions = take(loader(**options).batches(0, 0, 1), 8)
    captioned, same_positions = take(loader(**options, with_captions=True).batches(0, 0, 1), 8)
    assert same(captioned, plain) and positions == same_positions
    assert not any("text" in batch for batch in plain)
    assert all(len(batch["text"]) == 5 for batch in captioned)
    texts = [text for batch in captioned for text in batch["text"]]
    # clips differ by their level, which a gain of 1 dB leaves near
    levels = [clip[0][0] for batch in captioned for clip in batch["waveform"]]
    for text, level in zip(texts, levels, strict=True):
        if text[-1].isdigit():
            number = int(text.split()[-1].lstrip("b"))
            assert level == pytest.approx((number + 1) / 32, rel=0.13)
    assert len(set(texts)) > 9
    if "mix" in kind:
        assert {text.split()[0][0] for text in texts} >= {"t", "a"}


def test_a_clip_without_a_caption_has_the_empty_text_beside_its_crop(tmp_path):
    lines = ["file_name,text"]
    for name, text in (("a", "a dog"), ("b", "")):
        soundfile.write(tmp_path / f"{name}.wav", np.full(400, 0.5 if text else 0.25), RATE)
        lines.append(f"{name}.wav,{text}")
    (tmp_path / "metadata.csv").write_text("\n".join(lines) + "\n")
    crops = loader(source=str(tmp_path), with_captions=True, captions={"dropout": 1.0})
    for batch in islice(crops.batches(0, 0, 1), 3):
        assert batch["text"] == ["a dog" if clip[0, 0] > 0.3 else "" for clip in batch["waveform"]]
    assert (
        len(list(loader(source=str(tmp_path), with_captions=True, validation_fraction=0.5).held_out())) == 1
    )
    with pytest.raises(ValueError, match="names 'label', which is not a column of"):
        loader(source=str(tmp_path), with_captions=True, captions={"templates": ["{label}"]})


def test_a_small_broken_dataset_is_not_lost_in_a_large_one(clip_sources, tmp_path):
    for index in range(20):
        (tmp_path / f"{index}.wav").write_bytes((clip_sources["files"] / "clip0.flac").read_bytes())
    for index in range(3):
        (tmp_path / f"{index}.wav").write_text("not audio")
    said = []
    sources = [{"source": str(tmp_path)}, {"source": str(clip_sources["files"]), "weight": 5}]
    crops = loader(sources=sources, said=said, max_bad_share=0.1)
    with pytest.raises(TooManyBadFiles, match="3 of 20 files of '0' cannot be read"):
        for batch in islice(crops.batches(0, 0, 1), 200):
            crops.bad_files.add(batch["failures"], seen=2)
    assert sum("skipping 0: " in line for line in said) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "data.source or data.sources must be given"),
        ({"source": "x", "sources": {"a": {"source": "y"}}}, "data.source or data.sources must be given"),
        ({"sources": {"a": {"weight": 2}}}, "data.sources.a.source is missing"),
        ({"sources": {"a": {"source": "y", "wieght": 2}}}, "did you mean 'data.sources.a.weight'"),
        ({"sources": "y"}, "must hold datasets by name"),
        ({"source": "x", "batch_size": 0}, "data.batch_size must be at least 1"),
        ({"source": "x", "num_workers": -1}, "data.num_workers must be at least 0"),
        ({"source": "x", "streaming": True, "cache_audio": True}, "needs data.streaming false"),
        ({"source": "x", "validation_seconds": 0.0}, "data.validation_seconds must be greater than 0"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        loader(**options)


def test_a_dataset_in_memory_gives_the_same_clips_and_captions(clip_sources):
    options = {
        "source": str(clip_sources["parquet"]),
        "captions": {"templates": ["a {text}"], "dropout": 0.3},
    }
    plain, cached = (
        list(islice(loader(AudioCaptionLoader, cache_audio=cache, **options).batches(0, 0, 1), 10))
        for cache in (False, True)
    )
    for one, two in zip(plain, cached, strict=True):
        assert one["text"] == two["text"]
        torch.testing.assert_close(one["waveform"], two["waveform"], rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("cls", [CropLoader, AudioCaptionLoader])
@pytest.mark.parametrize("streaming", [False, True])
def test_workers_need_not_be_forked(clip_sources, cls, streaming, monkeypatch):
    """Spawned ones get a pickle of the data and of nothing else: a run's log is none that can be pickled."""

    def through_pickle(dataset, collate, **options):
        return make_loader(*pickle.loads(pickle.dumps((dataset, collate))), **options)

    options = {"source": str(clip_sources["tars"]), "streaming": streaming, "validation_fraction": 0.3}
    forked, _ = take(loader(cls, **options).batches(0, 0, 1), 6)
    monkeypatch.setattr(audio_data, "make_loader", through_pickle)
    spawned, _ = take(loader(cls, **options).batches(0, 0, 1), 6)
    assert same(spawned, forked)


class WorkerState(torch.utils.data.Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        handlers = [signal.getsignal(number).name for number in (signal.SIGINT, signal.SIGTERM)]
        return {"state": [torch.get_num_threads(), *handlers]}


def test_workers_have_one_thread_and_leave_signals_to_the_process_that_started_them():
    """Else each worker would announce the trainer's own 'stopping after this step'."""
    previous = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        batches = list(make_loader(WorkerState(), lambda items: items[0], batch_size=1, num_workers=1))
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    assert [batch["state"] for batch in batches] == [[1, "SIG_IGN", "SIG_DFL"]] * 2
