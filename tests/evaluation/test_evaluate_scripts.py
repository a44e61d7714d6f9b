"""The measuring scripts, from a labelled dataset and saved models to JSON, pictures and examples."""

import csv
import json
import sys
from pathlib import Path

import pytest
import torch
import yaml

sys.path.insert(0, str(Path(__file__).parents[2] / "training"))
import evaluate_autoencoder
import evaluate_generator
from star_hf.audio import audio_info, write_audio

RATE = 8000
CAPTIONS = {"rain": ["rain falling on a roof"], "clock_tick": ["a clock ticking", "sea waves"]}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Twelve clips of two classes in two folds: noise, and clicks."""
    folder = tmp_path_factory.mktemp("dataset") / "train"
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    rows = []
    for index in range(12):
        label = list(CAPTIONS)[index % 2]
        waveform = 0.1 * torch.randn(1, RATE // 2, generator=generator)
        if label == "clock_tick":
            waveform *= torch.arange(RATE // 2) % 1000 < 50
        write_audio(folder / f"{index}.wav", waveform, RATE)
        text = CAPTIONS[label][index // 2 % len(CAPTIONS[label])]
        rows.append({"file_name": f"{index}.wav", "text": text, "label": label, "fold": 1 + index // 2 % 2})
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def _run_folder(folder, autoencoder, fraction=0.25, key="file_name"):
    """What a training run leaves behind."""
    autoencoder.save_pretrained(folder / "export")
    arguments = {
        "data": {"validation_fraction": fraction, "validation_key": key, "audio_column": "audio"},
        "losses": {"stft": 1.0, "kl": 1.0},
        "regularizer": {"name": "star", "beta_min": 1e-4, "beta_max": 4e-4, "growth": "gamma", "gamma": 2.0},
        "seed": 0,
    }
    _write_run(folder, arguments)
    return folder


def _write_run(folder, arguments):
    (folder / "arguments.yaml").write_text(yaml.safe_dump(arguments))
    records = [
        {"step": 50, "minutes": 1.5, "loss": 2.0},
        {"step": 80, "minutes": 2.5, "loss": 1.5},
        {"step": 80, "validation/flow": 1.6},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def test_autoencoders_are_measured_side_by_side(dataset, tiny_autoencoder, tmp_path):
    star = _run_folder(tmp_path / "star", tiny_autoencoder)
    with torch.no_grad():
        tiny_autoencoder.decoder.conv2.weight_g.mul_(0.5)
    tiny_autoencoder.save_pretrained(tmp_path / "quiet")
    argv = ["--vaes.star", str(star), "--vaes.quiet", str(tmp_path / "quiet")]
    argv += ["--data.source", str(dataset), "--output_dir", str(tmp_path / "out"), "--device", "cpu"]
    evaluate_autoencoder.main(argv)

    document = json.loads((tmp_path / "out" / "reconstruction.json").read_text())
    assert (tmp_path / "out" / "kl_profile.png").is_file()
    assert document["settings"] | {"latents": ""} == {
        "dataset": dataset.parent.name,
        "held_out_clips": 3,
        "validation_fraction": 0.25,
        "validation_key": "file_name",
        "latents": "",
    }
    star, quiet = (document["autoencoders"][name] for name in ("star", "quiet"))
    assert star["training"]["steps"] == 80 and star["training"]["minutes"] == 2.5
    assert "training" not in quiet
    assert star["stft_distance"]["clips"] == 3 and star["stft_distance"]["std"] > 0
    # Scaling the output changes the distances, but neither SI-SDR, nor the latents, nor the judge's opinion.
    assert abs(star["stft_distance"]["mean"] - quiet["stft_distance"]["mean"]) > 1e-3
    assert star["si_sdr"]["mean"] == pytest.approx(quiet["si_sdr"]["mean"], abs=1e-2)
    assert star["latents"] == quiet["latents"]
    assert star["judge"] == quiet["judge"]
    assert len(star["latents"]["kl_per_channel"]) == star["latent_channels"] == 4
    assert document["ceiling"]["accuracy"] == 1.0
    # Neither the machine's folders nor its name are told.
    assert str(tmp_path) not in json.dumps(document)


def test_autoencoders_with_different_held_out_clips_are_refused(dataset, tiny_autoencoder, tmp_path, capsys):
    for name, fraction in (("a", 0.25), ("b", 0.5)):
        _run_folder(tmp_path / name, tiny_autoencoder, fraction)
    argv = ["--vaes.a", str(tmp_path / "a"), "--vaes.b", str(tmp_path / "b")]
    with pytest.raises(SystemExit):
        evaluate_autoencoder.main(
            [*argv, "--data.source", str(dataset), "--output_dir", str(tmp_path / "out")]
        )
    assert "hold out different clips" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_held_out_clips_must_be_known(dataset, tiny_autoencoder, tmp_path, capsys):
    tiny_autoencoder.save_pretrained(tmp_path / "model")
    with pytest.raises(SystemExit):
        evaluate_autoencoder.main(
            [
                "--vaes.a",
                str(tmp_path / "model"),
                "--data.source",
                str(dataset),
                "--output_dir",
                str(tmp_path),
            ]
        )
    assert "data.validation_fraction is missing" in capsys.readouterr().err


@pytest.fixture(scope="module")
def generation(dataset, tiny_pipeline_folder, tmp_path_factory):
    """The folder that evaluate_generator.py filled."""
    output = tmp_path_factory.mktemp("generation")
    run = tmp_path_factory.mktemp("run")
    _write_run(run, {"seed": 5})
    argv = [
        "--pipeline",
        str(tiny_pipeline_folder),
        "--data.source",
        str(dataset),
        "--output_dir",
        str(output),
    ]
    argv += ["--clips_per_class", "3", "--seconds", "0.25", "--steps", "2", "--batch_size", "4"]
    evaluate_generator.main([*argv, "--examples_per_class", "2", "--device", "cpu", "--run", str(run)])
    return output


def test_generated_clips_are_judged(generation, dataset):
    document = json.loads((generation / "generation.json").read_text())
    judged = document["generated"]["judge"]
    assert judged["num_clips"] == 6
    assert set(judged["per_class"]) == set(CAPTIONS)
    assert sum(sum(row.values()) for row in judged["confusion"].values()) == 6
    assert document["settings"]["prompts"] == {k: sorted(v) for k, v in CAPTIONS.items()}
    assert document["settings"]["real_clips"] == document["ceiling"]["real"]["num_clips"] == 12
    assert document["ceiling"]["real"]["accuracy"] == 1.0
    assert document["chance"] == 0.5
    assert document["speed"]["seconds_single_clip"] > 0
    assert document["pipeline"]["vae"]["sampling_rate"] == RATE
    assert document["pipeline"]["training"] == {"steps": 80, "minutes": 2.5, "seed": 5}
    assert document["machine"]["threads"] == torch.get_num_threads()
    assert str(dataset) not in json.dumps(document)


def test_examples_and_picture_are_written(generation):
    files = sorted(path.name for path in (generation / "examples").iterdir())
    assert files == ["clock_tick.flac", "clock_tick_2.flac", "rain.flac", "rain_2.flac"]
    info = audio_info(generation / "examples" / "rain.flac")
    assert (info.sampling_rate, info.channels, info.duration) == (RATE, 2, 0.25)
    assert (generation / "spectrograms.png").is_file() and (generation / "training.png").is_file()


def test_every_clip_has_its_own_seed_and_its_class_s_prompts_in_turn():
    requests = evaluate_generator.plan(CAPTIONS, 3, first_seed=7)
    assert [request.seed for request in requests] == list(range(7, 13))
    assert [request.prompt for request in requests[3:]] == ["a clock ticking", "sea waves", "a clock ticking"]


def test_clips_do_not_depend_on_the_batch_they_are_generated_in(tiny_pipeline_folder):
    from star_hf import StarGenPipeline

    pipeline = StarGenPipeline.from_pretrained(tiny_pipeline_folder)
    arguments = evaluate_generator.GeneratorEvaluationArguments(seconds=0.1, steps=2)
    sampler = evaluate_generator.Sampler(pipeline, arguments)
    requests = evaluate_generator.plan(CAPTIONS, 2, first_seed=1)
    together, alone = (evaluate_generator.generate(sampler, requests, size) for size in (4, 1))
    for first, second in zip(together, alone, strict=True):
        assert torch.allclose(first.waveform, second.waveform, atol=1e-5)
    assert not torch.allclose(together[0].waveform, together[1].waveform, atol=1e-3)


def test_silent_clips_count_as_wrong(tiny_pipeline_folder, dataset):
    request = evaluate_generator.Request("rain", "rain falling on a roof", 0)
    silent = evaluate_generator.Generated(request, torch.zeros(2, RATE), 0.1)

    class Judge(evaluate_generator.ClipJudge):
        def assign(self, features):
            return ["rain"] * len(features)

    report = evaluate_generator.judge_generated(Judge(), [silent], RATE)
    assert report.accuracy == 0
    assert report.confusion == {"rain": {"rain": 0, "silence": 1}}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--clips_per_class", "0"], "clips_per_class must be at least 1"),
        (["--prompts.thunder", "[thunder]"], "prompts names thunder"),
        (["--data.label_column", "kind"], "data.label_column 'kind' is not in the dataset"),
        (["--data.source", ""], "data.source is missing"),
        (["--pipeline", "/nowhere"], "/nowhere"),
    ],
)
def test_wrong_arguments_are_refused(option, message, dataset, tiny_pipeline_folder, tmp_path, capsys):
    argv = [
        "--pipeline",
        str(tiny_pipeline_folder),
        "--data.source",
        str(dataset),
        "--output_dir",
        str(tmp_path),
    ]
    with pytest.raises(SystemExit):
        evaluate_generator.main([*argv, *option])
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
