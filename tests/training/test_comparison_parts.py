"""The comparison's parts: which commands a recipe becomes, what is measured, when a change counts."""

import copy
import math
from pathlib import Path

import pytest
import torch

from comparison.extras import TeacherSettings, make_captions, make_teacher
from comparison.metrics import METRICS
from comparison.recipes import CONTROL, make_run, method_recipes, needs
from comparison.verdict import moved, number, sentence, thresholds
from star_hf import AutoencoderStar
from star_hf.data import load_audio_dataset
from star_hf.evaluation import LatentCovariance, stft_distance
from study.execution import Trainings
from study.measure import designed_noise, measure
from study.runs import ROOT

RECIPES = ROOT / "training" / "recipes" / "regularizers"


def test_every_recipe_is_a_method_and_the_control_comes_first(tmp_path):
    for name in ("star", "control", "phase1", "common", "lafa_mse"):
        (tmp_path / f"{name}.yaml").write_text("max_steps: 2\n")
    assert list(method_recipes(tmp_path)) == ["control", "lafa_mse", "star"]
    (tmp_path / "phase1.yaml").unlink()
    with pytest.raises(ValueError, match=r"has no phase1\.yaml"):
        method_recipes(tmp_path)


def test_the_command_is_the_one_of_the_recipe():
    run = make_run("star", RECIPES / "star.yaml", Path("runs/regularizers"), {})
    assert run.command == (
        "python training/train_autoencoder.py --config training/recipes/regularizers/star.yaml "
        "--output_dir runs/regularizers/star"
    )


def test_another_folder_moves_all_that_the_recipe_expects(tmp_path):
    recipe = tmp_path / "lafa_small.yaml"
    recipe.write_text(
        "vae: runs/regularizers/phase1\nmax_steps: 7\noutput_dir: runs/regularizers/lafa_small\n"
        "semantic: {teacher: runs/regularizers/teacher}\n"
    )
    run = make_run("lafa_small", recipe, Path("other"), {"seed": 3}, threads=2)
    assert run.script == "train_lafa.py"
    assert run.places == {
        "output_dir": "other/lafa_small",
        "threads": "2",
        "vae": "other/phase1",
        "semantic.teacher": "other/teacher",
    }
    assert needs(recipe) == {"teacher"}
    assert run.steps == 7 and make_run("a", recipe, Path("other"), {"max_steps": 9}).steps == 9
    # where things lie is no part of what is trained
    assert run.plan() == make_run("lafa_small", recipe, Path("third"), {"seed": 3}).plan()
    assert run.plan() != make_run("lafa_small", recipe, Path("other"), {"seed": 4}).plan()


def test_a_budget_of_time_cannot_be_compared(tmp_path):
    recipe = tmp_path / "a.yaml"
    recipe.write_text("max_steps: 5\nmax_minutes: 2\n")
    with pytest.raises(ValueError, match="must set max_steps and no max_minutes"):
        _ = make_run("a", recipe, Path("runs"), {}).steps


def test_a_run_that_fails_does_not_keep_the_others_from_training(tmp_path, monkeypatch, capsys):
    recipe = tmp_path / "a.yaml"
    recipe.write_text("max_steps: 5\n")
    runs = [make_run(name, recipe, tmp_path / "runs", {}) for name in ("broken", "short", "good")]

    def script(self, run):
        run.begin()
        (run.folder / "console.log").write_text("lines\nerror: the disk is full\n")
        steps = {"short": 4, "good": 5}.get(run.name)
        if steps is None:
            return 1
        (run.folder / "export").mkdir()
        checkpoint = run.folder / "checkpoints" / f"step_{steps:08d}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "run_state.json").write_text(f'{{"step": {steps}}}')
        return 0

    monkeypatch.setattr(Trainings, "_run_script", script)
    failures = Trainings(jobs=2).train(runs)
    assert failures == {
        "broken": "exit code 1: lines | error: the disk is full",
        "short": "exit code 0: lines | error: the disk is full",
    }
    assert "good: trained in" in capsys.readouterr().out


@pytest.fixture(scope="module")
def clips(recordings):
    return load_audio_dataset(str(recordings), "train")


def tiny(**config):
    torch.manual_seed(0)
    return AutoencoderStar(
        encoder_hidden_size=4,
        decoder_channels=4,
        downsampling_ratios=[4, 8],
        channel_multiples=[1, 2],
        decoder_input_channels=8,
        sampling_rate=8000,
        context_type="none",
        **config,
    ).eval()


def test_what_is_measured_of_a_gaussian_posterior(clips):
    vae = tiny()
    result = measure(vae, clips, "audio", "test")
    metrics = result["metrics"]
    assert set(metrics) == set(METRICS)
    assert metrics["capacity_kbps"] is None
    assert result["posterior"] == "gaussian" and result["clips"] == 9
    kl = torch.tensor(result["latents"]["kl_per_channel"], dtype=torch.float64)
    assert metrics["rate_kbps"] == pytest.approx(kl.sum().item() / math.log(2) * 250 / 1000)
    assert metrics["kl_head_tail_ratio"] == pytest.approx((kl[0] / kl[-1]).item())
    assert measure(vae, clips, "audio", "test") == result
    # noise on latents that the decoder does not look at changes nothing
    torch.nn.init.zeros_(vae.decoder.conv1.weight_g)
    deaf = measure(vae, clips, "audio", "test")["metrics"]
    assert deaf["stft_distance_noise_0.3"] == pytest.approx(deaf["stft_distance"], rel=1e-6)
    assert metrics["stft_distance_noise_0.3"] != pytest.approx(metrics["stft_distance"], rel=1e-3)


def test_the_noise_is_in_units_of_each_channel_s_spread(clips):
    """One clip by hand: the posterior's mean plus 0.1 of the standard deviation over all frames."""
    from star_hf.audio import read_audio
    from star_hf.data import audio_source

    vae, one = tiny(), clips.select([0])
    result = measure(vae, one, "audio", "test")["metrics"]
    waveform = read_audio(audio_source(one[0]["audio"]), 8000, 2)[0][None]
    with torch.no_grad():
        mean = vae.encode(waveform).latent_dist.mode()
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
        noisy = mean + 0.1 * mean.std(dim=2, correction=0, keepdim=True) * noise
        decoded = vae.decode(noisy).sample[..., : waveform.shape[-1]]
    assert result["stft_distance_noise_0.1"] == pytest.approx(
        stft_distance(decoded, waveform).item(), rel=1e-5
    )


def test_a_posterior_without_kl_has_a_capacity_at_its_noise(clips):
    result = measure(tiny(bottleneck="sigma", sigma=0.25), clips, "audio", "test")
    metrics, std = result["metrics"], torch.tensor(result["latents"]["std_per_channel"]).double()
    assert metrics["rate_kbps"] is None and metrics["kl_head_tail_ratio"] is None
    bits = 0.5 * torch.log2(1 + std.square() / 0.25**2)
    assert metrics["capacity_kbps"] == pytest.approx(bits.sum().item() * 250 / 1000)
    # deterministic and without noise there is no limit to what passes
    assert (
        measure(tiny(bottleneck="soft_normalization"), clips, "audio", "test")["metrics"]["capacity_kbps"]
        is None
    )


def test_noise_in_units_of_all_latents_spread():
    latents = torch.randn(1, 3, 500) * torch.tensor([1.0, 2.0, 3.0])[:, None] + torch.arange(3.0)[:, None]
    moments = LatentCovariance().update(latents).moments()
    expected = 0.05 * latents.double().std(correction=0).item()
    assert designed_noise(tiny(), moments, 0.05) == pytest.approx(expected, rel=1e-6)
    assert designed_noise(tiny(), moments, 0.0) is None


def result_of(**metrics):
    values = dict.fromkeys(METRICS, 1.0) | {"capacity_kbps": None} | metrics
    return {"metrics": values, "updates": 10}


def document_of(**methods):
    control = result_of()
    limits = thresholds(control["metrics"], [result_of(mel_distance=1.05)["metrics"]])
    return {"methods": {CONTROL: control, **methods}, "thresholds": limits}


def test_thresholds_are_the_spread_or_the_floor():
    limits = document_of()["thresholds"]
    assert limits["mel_distance"] == pytest.approx(0.05)
    assert limits["stft_distance"] == pytest.approx(0.01)
    assert limits["si_sdr"] == pytest.approx(0.1)
    assert limits["capacity_kbps"] is None


def test_only_changes_above_the_threshold_count():
    document = document_of()
    control, limits = document["methods"][CONTROL]["metrics"], document["thresholds"]
    within = result_of(mel_distance=0.951, stft_distance=1.0099, si_sdr=0.901)["metrics"]
    assert moved(within, control, limits) == []
    beyond = result_of(mel_distance=0.94, stft_distance=1.1)["metrics"]
    # largest first, in units of the threshold: 0.1 / 0.01 against 0.06 / 0.05
    assert [metric.key for metric in moved(beyond, control, limits)] == ["stft_distance", "mel_distance"]


def test_sentences_say_what_moved_and_which_way():
    methods = {
        "good": result_of(stft_distance=0.9, si_sdr=1.5, latent_correlation=1.2),
        "nothing": result_of(stft_distance=1.005),
        "free": result_of(rate_kbps=None, kl_head_tail_ratio=None, capacity_kbps=12.345),
        "adversarial": {**result_of(), "updates": 5},
    }
    document = document_of(**methods)
    said = {name: sentence(name, copy.deepcopy(result), document) for name, result in methods.items()}
    assert said["good"] == (
        "**good** moves latent correlation 1.00 → 1.20, STFT distance 1.00 → 0.900 (better), "
        "SI-SDR 1.00 → 1.50 dB (better)."
    )
    assert said["nothing"] == "**nothing** does nothing measurable at this size."
    assert said["free"].endswith("its posterior has no KL, its capacity is 12.3 kbit/s.")
    assert said["adversarial"].endswith("its autoencoder made 5 updates, the control's 10.")


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.99, 3, "0.990"),
        (-36.57, 3, "-36.6"),
        (1234.5, 3, "1230"),
        (9.996, 3, "10.0"),
        (2.1e-5, 2, "0.000021"),
        (0.0, 3, "0"),
        (None, 3, "–"),
    ],
)
def test_numbers_have_their_digits(value, digits, text):
    assert number(value, digits) == text


def test_a_teacher_is_taught_the_training_clips_and_can_be_loaded(recordings, clips, tmp_path):
    from transformers import AutoFeatureExtractor, AutoModel

    settings = TeacherSettings(
        steps=2, batch_size=2, crop_seconds=0.3, frames=32, mel_bands=16, hidden_size=8, layers=1, heads=2
    )
    folder = tmp_path / "teacher"
    training, held_out = clips.select(range(6)), clips.select(range(6, 9))
    facts = make_teacher(folder, training, held_out, "audio", "label", settings)
    assert (facts["training_clips"], facts["held_out_clips"]) == (6, 3)
    assert 0 <= facts["held_out_accuracy"] <= 1
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, use_safetensors=True)
    inputs = extractor([0.1 * torch.randn(4000).numpy()], sampling_rate=16000, return_tensors="pt")
    # one band of patches, three in time, two special tokens
    assert model(**inputs).last_hidden_state.shape == (1, 2 + 3, 8)
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert make_teacher(folder, training, held_out, "audio", "label", settings) == facts
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    with pytest.raises(ValueError, match="holds a teacher of other settings"):
        make_teacher(folder, training, held_out, "audio", "label", TeacherSettings(steps=3))
    with pytest.raises(ValueError, match="label_column 'kind'"):
        make_teacher(tmp_path / "other", training, held_out, "audio", "kind", settings)


def test_the_caption_encoder_is_the_embedded_generator_s(tmp_path):
    from transformers import AutoModel, AutoTokenizer

    from star_hf import StarGenModel, embedded_checkpoint

    facts = make_captions(tmp_path / "captions")
    assert make_captions(tmp_path / "captions") == facts
    own = AutoModel.from_pretrained(tmp_path / "captions", use_safetensors=True)
    backbone = StarGenModel.from_pretrained(Path(embedded_checkpoint()) / "model").backbone
    for name, weight in backbone.state_dict().items():
        assert torch.equal(own.state_dict()[name].float(), weight.float()), name
    assert AutoTokenizer.from_pretrained(tmp_path / "captions")("a dog barks loudly").input_ids
    assert facts["parameters"] == sum(parameter.numel() for parameter in backbone.parameters())
