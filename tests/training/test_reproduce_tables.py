"""The tables' study: its runs and their order, its measurements, and all of it end to end on tiny models."""

import csv
import importlib
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

import reproduce_tables
from measurement import read_clips, reconstruct
from star_hf.audit import as_codec
from star_hf.autoencoder import AutoencoderStar
from star_hf.evaluation import band_errors, frechet_distance
from star_hf.regularizers import growth_curve
from study import execution, held_out as study_held_out
from study.audience import Audience
from tables import auditing, band_errors as tables_bands, experiments, timing
from tables.experiments import Budget, Experiment, all_experiments, make_run
from tables.generators import Generators, probe_settings
from tables.results import mean_weight, told
from tasks.vae_loading import load_vae

STAR = Experiment("mamba", "star", 0)


def test_an_interrupted_study_has_the_first_tables_of_the_first_seed():
    found = all_experiments([0, 1], [0])
    assert len(found) == len(set(found))
    seeds = [experiment.seed for experiment in found]
    assert seeds == sorted(seeds)
    place = {experiment: number for number, experiment in enumerate(found)}
    for experiment in found:
        assert experiment.start is None or place[experiment.start] < place[experiment]
        assert experiment.control in place
    last_of = {
        table: max(place[Experiment(*kind, 0)] for kind in rows) for table, rows in experiments.TABLES.items()
    }
    assert list(last_of.values()) == sorted(last_of.values())
    rates = [each for each in found if each.training in experiments.RATE_SWEEP]
    assert {each.seed for each in rates} == {0} and len(rates) == 4
    assert {kind for rows in experiments.TABLES.values() for kind in rows} <= {e.kind for e in found}


def test_runs_start_from_phase1_of_their_own_backbone_and_seed(tmp_path):
    budget = Budget(phase1_steps=7, steps=5, data="recordings", threads=1)
    run = make_run(Experiment("transformer", "star_gamma_1.5", 1), tmp_path, budget)
    assert run.after == "transformer_phase1_seed1"
    assert run.places["init_from"] == str(tmp_path / run.after)
    assert run.steps == 5 and run.start["changes"]["max_steps"] == 7
    assert run.start["changes"]["model.context_type"] == "transformer"
    assert run.changes["regularizer.gamma"] == 1.5 and run.changes["seed"] == 1
    lafa = make_run(Experiment("mamba", "lafa", 0), tmp_path, budget)
    assert lafa.script == "train_lafa.py" and lafa.places["vae"] == str(tmp_path / "mamba_phase1_seed0")
    # where things lie is no part of what is trained, what they start from is
    elsewhere = make_run(STAR, tmp_path / "b", Budget())
    assert make_run(STAR, tmp_path, Budget(threads=2)).plan() == elsewhere.plan()
    assert make_run(STAR, tmp_path, Budget(phase1_steps=9)).plan() != elsewhere.plan()
    assert make_run(STAR, tmp_path, Budget(lafa_steps=9)).plan() == elsewhere.plan()


def test_the_growth_functions_differ_in_their_mean_weight(tmp_path):
    weights = {
        name: mean_weight(make_run(Experiment("mamba", name, 0), tmp_path, Budget()), 64)
        for name in (*experiments.GROWTH, "isotropic", "target_kl_3", "lafa")
    }
    assert weights["target_kl_3"] is None and weights["lafa"] is None
    # the recipe's β is STAR's mean weight, so that the control has the same rate to lose
    assert weights["isotropic"] == pytest.approx(weights["star"], rel=1e-3)
    assert weights["star_linear"] == pytest.approx((5e-4 + 2e-3) / 2)
    assert weights["star_gamma_0.5"] > weights["star_linear"] > weights["star_gamma_3"]
    assert weights["star"] == pytest.approx(growth_curve(64, 5e-4, 2e-3).double().mean().item())


def test_what_a_run_was_told_beside_its_control(tmp_path):
    own, control = (
        told(make_run(experiment, tmp_path, Budget(data="a/b"))) for experiment in (STAR, STAR.control)
    )
    changed = {key for key in {*own, *control} if own.get(key) != control.get(key)}
    assert changed == {
        "model.context_type",
        "regularizer.name",
        "regularizer.beta_min",
        "regularizer.beta_max",
    }
    assert own["model.context_type"] == "mamba" and control["model.context_type"] == "none"


def test_a_probe_is_told_what_the_study_was_told(tmp_path):
    held_out = study_held_out.HeldOut(make_run(STAR, tmp_path, Budget()))
    probes = Generators(held_out, probe_settings(held_out, {"seeds": [3, 5], "budgets": [7]}), tmp_path / "g")
    assert probes.settings.held_out_fraction == 0.2
    runs = {each: make_run(each, tmp_path, Budget()) for each in all_experiments([0, 1], [0])}
    argv = ["--jobs", "2", "--only=measure,generators", "--probe.seeds", "[3, 5]", "--data", "recordings"]
    jobs = probes.jobs(runs, argv)
    # every autoencoder with the first seed, then with the second, which waits for the first
    assert [job.seed for job in jobs] == [3] * (len(jobs) // 2) + [5] * (len(jobs) // 2)
    first, again = (next(job for job in jobs if job.run.name == STAR.name and job.seed == s) for s in (3, 5))
    assert first.after is None and again.after == first.name and first.steps == 7
    assert first.generators == ("star_gen", "dit")
    assert again.argv == [
        *("--data", "recordings"),
        *("--only", "generators", "--probe_one", STAR.name, "--probe.seeds", "[5]"),
    ]
    assert not again.is_finished()


class Stub:
    """A training of no time."""

    def __init__(self, name, after=None, log=None):
        self.name, self.after, self.log = name, after, log
        self.steps, self.command = 1, name

    def check_plan(self):
        pass

    def is_finished(self):
        return self.name in self.log


def test_a_run_waits_for_what_it_starts_from_and_lets_others_go_first(monkeypatch):
    log = []
    monkeypatch.setattr(execution.Trainings, "_run_script", lambda self, run: log.append(run.name) or 0)
    # one at a time: the order is the list's, but for a run whose start comes later
    runs = [Stub("b", "a", log), Stub("c", None, log), Stub("a", None, log), Stub("d", "elsewhere", log)]
    assert execution.Trainings(1).train(runs) == {}
    assert log.index("a") < log.index("b") and log[0] == "c" and len(log) == 4


def test_what_starts_from_a_failure_is_not_trained(monkeypatch):
    log = []

    def script(self, run):
        if run.name == "a":
            raise OSError("no space left")
        log.append(run.name)
        return 0

    monkeypatch.setattr(execution.Trainings, "_run_script", script)
    runs = [Stub("a", None, log), Stub("b", "a", log), Stub("c", "b", log), Stub("d", None, log)]
    failures = execution.Trainings(2).train(runs)
    assert failures == {
        "a": "no space left",
        "b": "a failed: no space left",
        "c": "b failed: a failed: no space left",
    }
    assert log == ["d"]


def test_the_distance_of_reconstructions_is_that_of_all_windows():
    audience, random = Audience(), torch.Generator().manual_seed(0)
    originals = [0.3 * torch.randn(1, 2 * 32000, generator=random) for _ in range(24)]
    exact, quiet = audience.listener(32000), audience.listener(32000)
    for number, clip in enumerate(originals):
        exact(str(number), clip, clip)
        quiet(str(number), 0.5 * clip, clip)
    assert exact.distance() == pytest.approx(0, abs=1e-6)
    windows = [
        np.concatenate([audience.embedder.embed(scale * clip, 32000) for clip in originals])
        for scale in (0.5, 1.0)
    ]
    assert quiet.distance() == pytest.approx(frechet_distance(*windows))
    # half the amplitude is 0.6 less in each of 32 bands
    assert quiet.distance() == pytest.approx(32 * math.log10(4) ** 2, rel=0.05)
    with pytest.raises(ValueError, match=r"bad\.wav: `waveform` holds NaN"):
        exact("bad.wav", torch.full((2, 32000), math.nan), originals[0])


def tiny_codec():
    torch.manual_seed(0)
    model = AutoencoderStar(
        encoder_hidden_size=4,
        decoder_channels=4,
        downsampling_ratios=[4, 8],
        channel_multiples=[1, 2],
        decoder_input_channels=8,
        sampling_rate=8000,
        context_type="none",
    )
    return as_codec(model.eval())


def test_backbones_take_turns(monkeypatch):
    codec, turns, clock = tiny_codec(), [], iter(range(1000))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(clock)))
    encode = type(codec).encode

    class Noted:
        device = codec.device

        def __init__(self, name):
            self.name = name

        def encode(self, waveform):
            turns.append(self.name)
            return encode(codec, waveform)

        def decode(self, latents):
            if self.name == "mamba":
                next(clock), next(clock)  # two seconds longer
            return codec.decode(latents)

    times = timing.timed({name: Noted(name) for name in ("cnn", "mamba")}, torch.zeros(2, 800), rounds=2)
    assert turns == ["cnn", "mamba"] * 3
    assert times["cnn"]["ratio"] == 1
    assert times["mamba"] == {
        "seconds": 4.0,
        "encode_seconds": 1.0,
        "decode_seconds": 3.0,
        "fastest": 4.0,
        "slowest": 4.0,
        "ratio": 2.0,
    }


PHASE1 = """
output_dir: runs/tables/phase1
max_steps: 2
log_every: 1
validate_every: 100
save_every: 100
threads: 1
report_to: []
mixed_precision: "no"
model:
  encoder_hidden_size: 4
  decoder_channels: 4
  downsampling_ratios: [4, 8]
  channel_multiples: [1, 2]
  decoder_input_channels: 8
  sampling_rate: 8000
  num_context_layers: 1
  context_hidden_size: 16
data:
  source: nowhere
  batch_size: 2
  validation_fraction: 0.25
  validation_key: group
  crops: {num_samples: 2048}
losses: {stft: 1.0, waveform: 1.0, kl: 1.0}
stft: {fft_sizes: [256, 64]}
"""
PHASE2 = """
base: phase1.yaml
model: null
regularizer: {beta: 1.0e-3}
optimizer: {learning_rate: 1e-2}
"""
LAFA = """
output_dir: runs/tables/lafa
max_steps: 2
log_every: 1
validate_every: 100
save_every: 100
threads: 1
report_to: []
model:
  encoder_hidden_size: 16
  encoder_layers: 1
  channel_patch: 4
  decoder_hidden_size: 16
  decoder_layers: 1
statistics_crops: 2
data:
  source: nowhere
  batch_size: 2
  validation_fraction: 0.25
  validation_key: group
  crops: {num_samples: 2048}
"""
PROBE = {
    "budgets": "[1, 2]",
    "seeds": "[0]",
    "batch_size": 4,
    "num_generated": 4,
    "sampling_steps": 2,
    "hidden_size": 16,
    "num_layers": 1,
    "num_heads": 2,
    "vocab_size": 300,
    "kept_clips": 1,
}
WANTED = ("mamba_isotropic_seed0", "mamba_star_seed0", "mamba_lafa_seed0")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Sixteen clips of noise and of tones, two of each recording."""
    folder = tmp_path_factory.mktemp("clips")
    random = np.random.default_rng(0)
    rows = []
    for index in range(16):
        label = ("noise", "tone")[index // 2 % 2]
        time_axis = np.arange(4800) / 8000
        tone = np.sin(2 * np.pi * 300 * (1 + index) * time_axis)
        samples = 0.2 * (random.standard_normal(4800) if label == "noise" else tone)
        soundfile.write(folder / f"{index}.wav", samples, 8000)
        rows.append(
            {
                "file_name": f"{index}.wav",
                "text": f"a {label}",
                "label": label,
                "fold": index // 2 // 2 % 2,
                "group": index // 2,
            }
        )
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.fixture(scope="module")
def options(clips, tmp_path_factory):
    """Command line of the study on the clips; later options win."""
    folder = tmp_path_factory.mktemp("tables")
    recipes = folder / "recipes"
    recipes.mkdir()
    for name, text in (("phase1", PHASE1), ("phase2", PHASE2), ("lafa", LAFA)):
        (recipes / f"{name}.yaml").write_text(text)
    own = {
        "recipes": recipes,
        "output_dir": folder / "runs",
        "docs": folder / "docs" / "results",
        "data": clips,
        "runs": ",".join(WANTED),
        "audit.decoded_clips": 2,
        "timing.seconds": 0.5,
        "timing.rounds": 1,
        **{f"probe.{key}": value for key, value in PROBE.items()},
    }

    def build(*more):
        return [text for key, value in own.items() for text in (f"--{key}", str(value))] + list(more)

    build.folder = folder
    return build


def train_in_this_process(self, runs):
    """The scripts without the seconds that processes of their own take to start."""
    from accelerate.state import AcceleratorState, GradientState

    for run in runs:
        run.check_plan()
        if not run.is_finished():
            run.begin()
            importlib.import_module(run.script.removesuffix(".py")).main(run.argv)
            AcceleratorState._reset_state(reset_partial_state=True)
            GradientState._reset_state()
    return {}


@pytest.fixture(scope="module")
def documents(options):
    """The study's three documents after everything was done once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execution.Trainings, "train", train_in_this_process)
        reproduce_tables.main(options())
    docs = options.folder / "docs" / "results"
    return {name: json.loads((docs / f"{name}.json").read_text()) for name in NAMES}


NAMES = ("autoencoders", "timing", "generators")


@pytest.mark.slow
def test_autoencoders_are_trained_and_measured(documents, options):
    document = documents["autoencoders"]
    runs, settings = document["runs"], document["settings"]
    assert list(runs) == ["mamba_phase1_seed0", *WANTED]
    assert len(document["missing"]) == len(all_experiments([0, 1], [0])) - 4
    assert "cnn_star_seed0" in document["missing"]
    assert (settings["training_clips"], settings["held_out_clips"]) == (12, 4)
    assert (settings["phase1_steps"], settings["steps"], settings["batch_size"]) == (2, 2, 2)
    assert settings["rate_steps"] == experiments.RATE_STEPS
    assert settings["embedder"] == "LogMelEmbedder"
    for name, run in runs.items():
        assert run["steps"] == 2 and run["metrics"]["fad"] > 0
        assert run["minutes"] > 0 and run["measuring_minutes"] > 0
        assert (run["audit"] is None) == (run["band_errors"] is None) == (name not in WANTED[:2])
    star = runs["mamba_star_seed0"]
    assert star["regularizer"] == "star" and runs["mamba_phase1_seed0"]["regularizer"] is None
    assert star["differs"]["model.context_type"] == "mamba"
    assert star["differs"]["regularizer.name"] == "star" and "seed" not in star["differs"]
    assert len(star["kl_per_channel"]) == 8
    rate = sum(star["kl_per_channel"]) / math.log(2) * 250 / 1000
    assert star["metrics"]["rate_kbps"] == pytest.approx(rate, rel=1e-4)
    audit = star["audit"]
    for end in ("truncation_head", "truncation_tail"):
        assert audit[end]["channels"][-1] == 8 and len(audit[end]["stft"]) == len(audit[end]["channels"])
    assert audit["truncation_head"]["stft"][-1] == audit["truncation_tail"]["stft"][-1]
    bands = star["band_errors"]
    # of the eight bands, those below half of the rate
    assert bands["edges_hz"][0] == [0, 250] and bands["edges_hz"][-1] == [2000, 4000]
    assert all(len(values) == 5 for values in bands.values()) and min(bands["error_db"]) > 0
    assert all(abs(bias) <= error for bias, error in zip(bands["bias_db"], bands["error_db"], strict=True))
    assert audit["clips"] == 4 and audit["probe_clips"] == 16 and 0 <= audit["probe_accuracy"] <= 1
    lafa = runs["mamba_lafa_seed0"]
    assert lafa["kl_per_channel"] is None and lafa["metrics"]["rate_kbps"] is None
    assert {row["regularizer"]: row["runs"] for row in document["tables"]["lafa"]} == {
        None: ["mamba_phase1_seed0"],
        "lafa": ["mamba_lafa_seed0"],
    }
    assert document["tables"]["table1"][0] == {"backbone": "cnn", "regularizer": "isotropic", "runs": []}
    # neither the machine's folders nor its name are told
    assert str(options.folder) not in json.dumps(documents)


@pytest.mark.slow
def test_time_and_generators_are_measured(documents, options, clips):
    mamba = documents["timing"]["backbones"]["mamba"]
    assert list(documents["timing"]["backbones"]) == ["mamba"] and mamba["run"] == "mamba_star_seed0"
    assert mamba["seconds"] > 0 and documents["timing"]["settings"]["threads"] >= 1
    document = documents["generators"]
    kinds = {name: list(report["generators"]) for name, report in document["autoencoders"].items()}
    assert kinds == {
        "mamba_star_seed0": ["star_gen", "dit"],
        "mamba_isotropic_seed0": ["star_gen", "dit"],
        "mamba_phase1_seed0": ["star_gen"],
        "mamba_lafa_seed0": ["star_gen"],
    }
    report = document["autoencoders"]["mamba_star_seed0"]
    assert report["run"] == {"backbone": "mamba", "regularizer": "star", "seed": 0}
    budgets = [(run["seed"], run["budget"]) for run in report["generators"]["dit"]["runs"]]
    assert budgets == [(0, 1), (0, 2)]
    assert document["missing"] == [] and "star_gen" in document["ranking"]
    # held out as the autoencoders' clips are
    assert document["settings"]["held_out_clips"] == documents["autoencoders"]["settings"]["held_out_clips"]
    page = (options.folder / "docs" / "results.md").read_text()
    assert "mamba" in page.lower()


@pytest.mark.slow
def test_what_is_finished_is_not_repeated(documents, options, monkeypatch, capsys):
    monkeypatch.setattr(execution.Trainings, "_run_script", lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr(study_held_out, "measure", lambda *_: pytest.fail("measured again"))
    monkeypatch.setattr(auditing, "audit_codec", lambda *_, **__: pytest.fail("audited again"))
    monkeypatch.setattr(tables_bands, "band_errors", lambda *_: pytest.fail("measured again by band"))
    monkeypatch.setattr("star_hf.probe.codec_probe.train", lambda *_, **__: pytest.fail("probed again"))
    reproduce_tables.main(options("--only", "autoencoders,measure,generators"))
    printed = capsys.readouterr().out
    assert "mamba_star_seed0: already trained, 2 steps" in printed
    assert "all runs and measurements together: " in printed
    docs = options.folder / "docs" / "results"
    for name in ("autoencoders", "generators"):
        again = json.loads((docs / f"{name}.json").read_text())
        parts = ("runs", "tables") if name == "autoencoders" else ("autoencoders", "ranking")
        assert all(again[part] == documents[name][part] for part in parts)


@pytest.mark.slow
def test_errors_by_band_are_means_of_the_metric_over_the_clips(documents, options, clips):
    folder = options.folder / "runs" / "mamba_star_seed0"
    kept = json.loads((folder / "band_errors.json").read_text())
    shown = documents["autoencoders"]["runs"]["mamba_star_seed0"]["band_errors"]
    assert shown == {key: kept[key] for key in shown} and kept["of"]["held_out_clips"] == 4
    phase1 = make_run(Experiment("mamba", "phase1", 0), folder.parent, Budget(data=str(clips)))
    held_out = study_held_out.HeldOut(replace(phase1, recipe=options.folder / "recipes" / "phase1.yaml"))
    vae, errors = load_vae(str(folder)), []
    for _, waveform in read_clips(held_out.split()[1], "audio", vae):
        errors.append(band_errors(reconstruct(vae, waveform)[None], waveform[None], 8000))
    mean = [sum(values) / 4 for values in zip(*(each.error.tolist() for each in errors), strict=True)]
    assert kept["error_db"] == pytest.approx(mean, rel=1e-4)
    assert kept["edges_hz"] == [list(edges) for edges in errors[0].edges]


@pytest.mark.slow
def test_a_missing_generator_is_listed_and_the_others_are_read(documents, options, monkeypatch):
    folder = options.folder / "runs" / "generators" / "runs" / "mamba_star_seed0"
    record = folder / "dit-seed0.json"
    text = record.read_text()
    record.unlink()
    monkeypatch.setattr(execution.Trainings, "train", lambda *_: {"mamba_star_seed0": "stopped"})
    docs = options.folder / "other" / "results"
    with pytest.raises(SystemExit):
        reproduce_tables.main(options("--only", "measure,generators", "--docs", str(docs)))
    record.write_text(text)
    document = json.loads((docs / "generators.json").read_text())
    assert document["missing"] == [{"autoencoder": "mamba_star_seed0", "generator": "dit", "seed": 0}]
    assert list(document["autoencoders"]["mamba_star_seed0"]["generators"]) == ["star_gen"]


@pytest.mark.slow
def test_a_changed_plan_is_refused(documents, options, capsys):
    for option in ("--steps", "--phase1_steps"):
        with pytest.raises(SystemExit):
            reproduce_tables.main(options("--only", "measure", option, "3"))
        error = capsys.readouterr().err
        assert "holds a run of other settings" in error and "max_steps: None became 3" in error
    with pytest.raises(SystemExit):
        reproduce_tables.main(options("--only", "generators", "--probe.num_layers", "2"))
    assert "`num_layers` 1 instead of 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--only", "autoencoder"], "only names 'autoencoder'; known stages: autoencoders, measure"),
        (["--seeds", "[0, 0]"], "seeds must be different numbers"),
        (["--rate_seeds", "[2]"], "rate_seeds must be among seeds [0, 1], got [2]"),
        (["--jobs", "0"], "jobs must be at least 1, got 0"),
        (["--runs", "cnn_stra_seed0", "--only", "autoencoders"], "runs names 'cnn_stra_seed0'; known: cnn"),
        (["--probe.generators", "dit"], "unknown key 'probe.generators'"),
        (["--probe.budgets", "[0]"], "probe: `budgets` must be whole numbers >= 1"),
        (["--probe_one", "cnn_star_seed0"], "'cnn_star_seed0' has no generators; known: mamba"),
        (["--probe_one", "mamba_target_kl_3_seed0"], "has not been trained yet"),
        (["--timing.rounds", "0"], "timing.rounds must be at least 1"),
        (["--data", "no/such/folder"], "give a folder of recordings or the name of a Hub dataset"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_trained(options, more, message, capsys):
    with pytest.raises(SystemExit):
        reproduce_tables.main(options(*more))
    assert message in capsys.readouterr().err
