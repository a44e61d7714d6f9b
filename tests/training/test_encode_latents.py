"""encode_latents.py: what is stored are the autoencoder's posteriors, whatever way they were computed."""

import json
import shutil

import numpy as np
import pytest
import soundfile
import torch

from star_hf import AutoencoderStar
from star_hf.autoencoder.oobleck import GRID_STEPS
from star_hf.data import LatentDataset, LatentStatistics, open_latents, row_captions

CHANNELS = 8


@pytest.fixture
def encode(encode_options, tmp_path):
    """Runs the script with further options; the rows and the description of `tmp_path / "latents"`."""

    def run(*more):
        import encode_latents

        encode_latents.main(encode_options(*more))
        return open_latents(tmp_path / "latents")

    return run


@pytest.fixture
def refused(encode_options, capsys):
    """Runs the script with further options, which it must refuse; what it says."""

    def run(*more):
        import encode_latents

        with pytest.raises(SystemExit) as stop:
            encode_latents.main(encode_options(*more))
        assert stop.value.code == 1
        return capsys.readouterr().err

    return run


def posteriors(rows):
    """Stored mean and std of every row, (latent_channels, frames) in float64."""
    return [
        tuple(
            torch.frombuffer(bytearray(row[name]), dtype=torch.float16).reshape(CHANNELS, -1).double()
            for name in ("mean", "std")
        )
        for row in rows
    ]


def assert_close(rows, others, atol):
    assert rows["text"] == others["text"] and rows["version"] == others["version"]
    for first, second in zip(posteriors(rows), posteriors(others), strict=True):
        for values, expected in zip(first, second, strict=True):
            torch.testing.assert_close(values, expected, rtol=0, atol=atol)


@pytest.fixture
def clips_of_many_lengths(tmp_path):
    """Twelve clips at 8 kHz of four lengths, the hop of 32 samples met by one of them; captions in order."""
    folder = tmp_path / "lengths"
    folder.mkdir()
    random, rows = np.random.default_rng(1), ["file_name,text"]
    for index in range(12):
        samples = 0.3 * random.standard_normal([500, 640, 1001, 2000][index % 4])
        soundfile.write(folder / f"{index:02d}.wav", samples, 8000, subtype="FLOAT")
        rows.append(f"{index:02d}.wav,clip {index}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_latents_are_the_posteriors_and_their_statistics(exported_autoencoder, recordings, encode, tmp_path):
    shutil.copytree(exported_autoencoder, tmp_path / "vae")
    rows, info = encode("--vae", str(tmp_path / "vae"), "--write_statistics_to_vae")
    assert (len(rows), rows[0]["label"], rows[0]["text"]) == (9, "low", "a low tone")
    assert (info.frame_rate, info.num_rows, info.num_failures) == (8000 / 32, 9, 0)
    vae = AutoencoderStar.from_pretrained(tmp_path / "vae")
    assert (vae.config.latents_mean, vae.config.latents_std) == (info.latents_mean, info.latents_std)

    stored = posteriors(rows)
    for name in (0, 2, 3):
        samples, _ = soundfile.read(recordings / f"{name}.wav", dtype="float32")
        with torch.no_grad():
            posterior = vae.encode(torch.from_numpy(samples).repeat(1, 2, 1)).latent_dist
        for values, expected in zip(stored[name], (posterior.mean, posterior.std), strict=True):
            torch.testing.assert_close(values.float(), expected[0], rtol=1e-3, atol=1e-4)
    assert LatentDataset(rows, info, row_captions(rows))[0]["latents"].shape == (stored[0][0].shape[1], 8)

    statistics = LatentStatistics(CHANNELS)
    for mean, std in stored:
        statistics.update(mean, std)
    torch.testing.assert_close(info.latents_mean, statistics.mean().tolist(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(info.latents_std, statistics.std().tolist(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("bottleneck", "kind"),
    [
        ({"bottleneck": "sigma", "sigma": 0.5}, "sigma"),
        ({"bottleneck": "soft_normalization"}, "deterministic"),
    ],
)
def test_latents_say_how_they_are_drawn(exported_autoencoder, encode, tmp_path, bottleneck, kind):
    vae = AutoencoderStar.from_pretrained(exported_autoencoder).with_bottleneck(**bottleneck)
    vae.save_pretrained(tmp_path / "vae")
    rows, info = encode("--vae", str(tmp_path / "vae"))
    assert info.posterior == kind
    stored, std = posteriors(rows), bottleneck.get("sigma", 0.0)
    assert all(torch.equal(values, torch.full_like(values, std)) for _, values in stored)
    means = torch.cat([mean for mean, _ in stored], dim=1)
    expected = (means.var(dim=1, correction=0) + std**2).sqrt()
    torch.testing.assert_close(info.latents_std, expected.tolist(), rtol=1e-9, atol=0)
    assert LatentDataset(rows, info, row_captions(rows))[0]["latents"].isfinite().all()


def test_shifted_versions_are_other_latents_of_the_same_length(encode):
    rows, info = encode("--num_shifts", "2", "--gain_db", "3")
    assert rows["version"] == [0, 1, 2] * 9 and info.settings["num_shifts"] == 2
    assert rows[0]["num_frames"] == rows[1]["num_frames"]
    assert len({rows[index]["mean"] for index in range(3)}) == 3


def test_random_choices_follow_from_the_seed_and_the_clip(encode):
    options = ("--max_seconds", "0.1", "--num_shifts", "1", "--overwrite")
    first, second = encode(*options)[0][:], encode(*options, "--rows_per_shard", "4")[0][:]
    assert first == second and set(first["num_frames"]) == {25}
    assert encode(*options, "--seed", "1")[0][:]["mean"] != first["mean"]


def test_batches_of_equal_length_change_nothing(encode, clips_of_many_lengths):
    options = ("--source", str(clips_of_many_lengths), "--keep_columns", "[]", "--overwrite")
    options += ("--num_shifts", "1", "--rows_per_shard", "12")
    alone, _ = encode(*options, "--batch_size", "1")
    shutil.rmtree(clips_of_many_lengths.parent / "latents")
    together, _ = encode(*options, "--batch_size", "3")
    assert set(together["num_frames"]) == {16, 20, 32, 63}
    assert_close(together, alone, atol=2e-3)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_batches_hold_every_item_once_beside_its_like(batch_size):
    from encoding.encoder import EqualLengthBatches

    lengths = np.random.default_rng(0).integers(1, 40, size=300).tolist()
    batches, taken, waiting = EqualLengthBatches(batch_size), [], 0
    for index, length in enumerate(lengths):
        ready = list(batches.add((index, length), length))
        taken += ready
        waiting += 1 - sum(map(len, ready))
        assert waiting <= 8 * batch_size
    taken += batches.rest()
    assert all(len({length for _, length in batch}) == 1 and len(batch) <= batch_size for batch in taken)
    assert sorted(index for batch in taken for index, _ in batch) == list(range(300))


def test_long_clips_are_encoded_in_tiles_to_the_same_latents(tmp_path, monkeypatch):
    from encoding.encoder import PosteriorEncoder

    vae = AutoencoderStar(
        encoder_hidden_size=4,
        decoder_channels=4,
        downsampling_ratios=[4, 8],
        channel_multiples=[1, 2],
        decoder_input_channels=CHANNELS,
        sampling_rate=8000,
        context_type="transformer",
        num_context_layers=1,
        context_hidden_size=8,
    )
    for parameter in vae.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    waveform = 0.3 * torch.randn(2, 32 * 200)
    (mean, std), *_ = PosteriorEncoder(vae, torch.device("cpu"))([waveform])
    longest, whole = [], vae._encode_features

    def counting(x, first_frame=0):
        longest.append(x.shape[-1] // vae.hop_length)
        return whole(x, first_frame)

    monkeypatch.setattr(vae, "_encode_features", counting)
    (tiled_mean, tiled_std), *_ = PosteriorEncoder(vae, torch.device("cpu"), tile_seconds=0.1)([waveform])
    assert max(longest) <= 25 + 2 * vae._encoder_reach + GRID_STEPS < 200 and len(longest) == 8
    torch.testing.assert_close(tiled_mean, mean, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(tiled_std, std, rtol=2e-3, atol=2e-3)


def test_half_precision_of_the_encoder_changes_little(encode):
    single = encode()[0][:]
    rows, info = encode("--mixed_precision", "bf16", "--overwrite")
    assert rows[:]["mean"] != single["mean"] and info.settings["mixed_precision"] == "bf16"
    for name in ("mean", "std"):
        values, expected = (
            np.concatenate([np.frombuffer(data, np.float16) for data in column]).astype(float)
            for column in (rows[name], single[name])
        )
        assert np.abs(values - expected).max() < 0.03 * np.abs(expected).max()


def test_captions_are_optional(encode):
    rows, _ = encode("--text_column", "null", "--keep_columns", "[]")
    assert rows["text"] == [""] * 9 and "label" not in rows.column_names


def test_a_stream_gives_the_latents_of_the_table(encode):
    table, first = encode()
    stream, second = encode("--streaming", "--rows_per_shard", "2", "--overwrite")
    assert stream[:] == table[:] and second.latents_std == pytest.approx(first.latents_std, rel=1e-12)
    assert first.dataset_fingerprint != second.dataset_fingerprint


@pytest.fixture
def damaged_recordings(recordings, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(recordings, folder)
    (folder / "5.wav").write_bytes(b"RIFF, but no more")
    return folder


def test_a_few_bad_files_are_skipped_and_listed(encode, damaged_recordings, tmp_path, capsys):
    rows, info = encode("--source", str(damaged_recordings), "--max_bad_share", "0.2")
    assert len(rows) == 8 and info.num_failures == 1
    (failure,) = json.loads((tmp_path / "latents" / "failures.json").read_text())
    assert failure["name"] == "5.wav" and "not audio" in failure["reason"]
    assert "skipping 5.wav" in capsys.readouterr().out


def test_many_bad_files_stop_the_run_which_may_go_on(encode, refused, damaged_recordings, tmp_path):
    message = refused("--source", str(damaged_recordings))
    assert "1 of 9 files cannot be read, more than the 5.0% allowed" in message and "5.wav" in message
    assert not (tmp_path / "latents").exists()
    rows, _ = encode("--source", str(damaged_recordings), "--max_bad_share", "0.2")
    assert len(rows) == 8


def test_dry_run_says_what_there_is_to_do_and_does_nothing(encode_options, tmp_path, capsys):
    import encode_latents

    encode_latents.main(encode_options("--dry_run", "--num_shifts", "1"))
    said = capsys.readouterr().out
    assert "9 clips, 2 version(s) of each" in said and "8 channels at 250.00 frames/s" in said
    assert "clips of 0.4 s on average, 0.0064 MB each" in said
    assert list(tmp_path.iterdir()) == []


def test_a_complete_dataset_is_not_encoded_again(encode, encode_options, tmp_path, capsys, monkeypatch):
    import encode_latents

    encode("--num_workers", "0")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "latents").iterdir()}
    monkeypatch.setattr(encode_latents, "Worker", None)
    encode_latents.main(encode_options("--batch_size", "4", "--overwrite"))
    assert "is complete already" in capsys.readouterr().out
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "latents").iterdir()} == before


def test_other_latents_are_kept_until_their_replacement_is_complete(
    encode, encode_options, refused, exported_autoencoder, tmp_path, monkeypatch
):
    import encode_latents
    from encoding.work import WorkFolder

    _, first = encode()
    other = AutoencoderStar.from_pretrained(exported_autoencoder)
    other.encoder.conv1.bias.data += 1e-3
    other.save_pretrained(tmp_path / "other")
    options = ("--vae", str(tmp_path / "other"), "--num_shifts", "1")
    message = refused(*options)
    assert f"vae_fingerprint {first.vae_fingerprint[:12]}… there and " in message
    assert "num_shifts 0 there and 1 here" in message and "--overwrite true" in message

    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(WorkFolder, "complete", die)
        encode_latents.main(encode_options(*options, "--overwrite"))
    assert open_latents(tmp_path / "latents")[1] == first
    message = refused("--num_shifts", "2", "--output_dir", str(tmp_path / "latents"))
    assert "num_shifts 0 there and 2 here" in message
    rows, second = encode(*options, "--overwrite")
    assert len(rows) == 18 and second.vae_fingerprint != first.vae_fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latents", "other"]


def test_unfinished_latents_with_other_settings_are_not_mixed(encode, encode_options, refused, monkeypatch):
    import encode_latents
    from encoding.work import WorkFolder

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(WorkFolder, "complete", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        encode_latents.main(encode_options())
    message = refused("--num_shifts", "1")
    assert "unfinished: num_shifts 0 there and 1 here" in message and "discards them" in message
    rows, _ = encode("--num_shifts", "1", "--overwrite")
    assert len(rows) == 18


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--text_column", "caption"), "text_column 'caption' is not in"),
        (("--audio_column", "sound"), "audio_column 'sound' is not in"),
        (("--keep_columns", "[label, speaker]"), "column 'speaker' is not in the dataset; it has"),
        (("--keep_columns", "[version]"), "keep_columns must not hold version"),
        (("--shift", "sideways"), "shift must be one of circular, delay, got 'sideways'"),
        (("--mixed_precision", "int4"), "mixed_precision must be one of no, bf16, fp16, got 'int4'"),
        (("--batch_size", "0"), "batch_size must be greater than 0, got 0"),
        (("--max_bad_share", "2"), "max_bad_share must be between 0 and 1, got 2.0"),
        (("--vae", "nobody/nothing"), "vae 'nobody/nothing' cannot be loaded"),
        (("--source", "/nowhere/at/all"), "source '/nowhere/at/all' does not exist"),
    ],
)
def test_mistakes_are_named_before_anything_is_encoded(refused, tmp_path, options, message):
    assert message in refused(*options)
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_take_latents_are_refused(refused, recordings, exported_autoencoder, tmp_path):
    assert "is something else than latents" in refused("--output_dir", str(recordings), "--overwrite")
    assert "Not a directory" in refused("--output_dir", str(recordings / "0.wav" / "latents"))
    pipeline = tmp_path / "pipeline"
    shutil.copytree(exported_autoencoder, pipeline / "vae")
    (pipeline / "vae" / "config.json").write_text('{"_class_name": "AutoencoderStar"}')
    message = refused("--vae", str(pipeline), "--write_statistics_to_vae")
    assert "write_statistics_to_vae needs a local folder of an AutoencoderStar" in message


@pytest.mark.parametrize("offset", [0, 1, 30, 99])
def test_a_circular_shift_moves_every_sample_and_fades_the_seam(offset):
    from encoding.encoder import shift_circularly

    clip = 1.0 + torch.arange(100.0).repeat(2, 1)
    shifted = shift_circularly(clip, offset, seam=5)
    changed = (shifted != clip.roll(offset, dims=-1)).any(dim=0).nonzero().flatten().tolist()
    seam = min(5, offset, 100 - offset)
    assert set(changed) <= set(range(offset - seam, offset + seam))
    assert bool((shifted.abs() <= clip.roll(offset, dims=-1).abs()).all())
