"""Cards say what was measured: each number comes from the JSON beside the card."""

import copy
import json
import re
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
import render_card

CARDS = Path(__file__).parents[1] / "model_cards"
MEASURED = sorted(path.parent.name for path in CARDS.glob("*/generation.json"))

JUDGE = {
    "accuracy": 0.7654,
    "per_class": {"rain": 0.9, "sea_waves": 0.6308},
    "confusion": {"rain": {"rain": 9, "sea_waves": 1}, "sea_waves": {"rain": 4, "sea_waves": 6}},
    "num_clips": 20,
}
RUN = {
    "steps": 4321,
    "minutes": 12.3,
    "init_from": None,
    "losses": {"stft": 1.0, "waveform": 10.0},
    "regularizer": {"name": "star", "beta_min": 1e-4, "beta_max": 4e-4, "growth": "gamma", "gamma": 2.0},
}
MACHINE = {"architecture": "x86_64", "cpu_capability": "AVX512", "threads": 2, "gpu": None}
LATENTS = {"kl_per_eighth": [4.17, 3.28], "rate_kbps": 13.57}
GENERATION = {
    "settings": {
        "real_clips": 318,
        "clips_per_class": 10,
        "seed": 1000,
        "seconds": 5.0,
        "steps": 24,
        "guidance": 3.0,
        "batch_size": 10,
        "prompts": {"rain": ["rain falling"], "sea_waves": ["sea waves"]},
    },
    "pipeline": {
        "parameters": {"model": 8.8e6, "vae": 4.4e6},
        "weights_mb": 26.4,
        "model": {"layers": 8, "hidden_size": 256, "attention_heads": 4, "vocabulary": 512},
        "vae": {
            "latent_channels": 64,
            "hop_length": 1024,
            "sampling_rate": 44100,
            "audio_channels": 2,
            "filterbank_bands": 32,
            "filterbank_type": "noise_excited",
            "linear_shortcut": True,
            "context_type": "mamba",
            "num_context_layers": 1,
        },
        "training": {**RUN, "regularizer": None, "losses": None, "steps": 9876},
    },
    "generated": {
        "judge": JUDGE,
        "silent_clips": 1,
        "novelty": {
            "generated_to_nearest": 0.61,
            "real_to_nearest": 0.72,
            "copy_distance": 0.41,
            "near_copies": 0.13,
            "near_copies_among_real": 0.11,
        },
    },
    "ceiling": {
        "real": {**JUDGE, "accuracy": 0.896},
        "through_vae": {**JUDGE, "accuracy": 0.853},
        "noise_vocoded": {**JUDGE, "accuracy": 0.817},
    },
    "chance": 0.5,
    "speed": {"seconds_per_clip_in_batches": 0.35, "seconds_single_clip": 0.77},
    "machine": MACHINE,
    "command": "python training/evaluate_generator.py --data.source train",
}
RECONSTRUCTION = {
    "settings": {"held_out_clips": 26},
    "autoencoders": {
        name: {
            "stft_distance": {"mean": mean, "std": 0.31, "clips": 26},
            "mel_distance": {"mean": 1.27, "std": 0.22, "clips": 26},
            "si_sdr": {"mean": -3.41, "std": 5.2, "clips": 26},
            "latents": LATENTS,
            "judge": {**JUDGE, "accuracy": 0.848},
            "training": RUN,
        }
        for name, mean in (("star", 1.913), ("isotropic", 1.957))
    },
    "ceiling": {**JUDGE, "num_clips": 318},
    "command": "python training/evaluate_autoencoder.py --data.source train",
}
ATTRIBUTION = """clip,title,author,license
1-100032-A.ogg,rose_bark.wav,nfrae,CC0
1-110389-A.ogg,"dog, springer|spaniel.wav",soundscalpel.com,CC-BY
"""


@pytest.fixture
def measured(tmp_path):
    """A folder of cards with measurements of one model, and the arguments to render its card."""
    (tmp_path / "tiny").mkdir()
    _write(tmp_path, GENERATION, RECONSTRUCTION)
    (tmp_path / "ATTRIBUTION.csv").write_text(ATTRIBUTION)
    return render_card.CardArguments(
        name="tiny", cards=str(tmp_path), attribution=str(tmp_path / "ATTRIBUTION.csv")
    )


def _write(cards, generation, reconstruction):
    (cards / "tiny" / "generation.json").write_text(json.dumps(generation))
    (cards / "tiny" / "reconstruction.json").write_text(json.dumps(reconstruction))


@pytest.mark.skipif(not MEASURED, reason="no model has been measured yet")
@pytest.mark.parametrize("name", MEASURED)
def test_committed_card_is_what_its_measurements_render_to(name):
    card = (CARDS / f"{name}.md").read_text(encoding="utf-8")
    assert render_card.render_card(render_card.CardArguments(name=name)) == card
    for link in re.findall(rf"\(({re.escape(name)}/[^)]+)\)", card):
        assert (CARDS / link).is_file(), link


def test_measurements_are_in_the_card(measured):
    card = render_card.render_card(measured)
    for text in (
        "**76.5%** of 20",
        "89.6% of 20",
        "85.3% of 20",
        "seeds 1000 to 1019",
        "24 steps, guidance 3, 5 s",
        "1 of the generated clips was silent",
        "| rain | **9** | 1 |",
        "| sea waves | 4 | **6** |",
        "| star | 1.91 ± 0.31 | 1.27 ± 0.22 | -3.41 ± 5.20 | 84.8% | 13.6 | 4.17 : 3.28 nats |",
        "| isotropic | 1.96 ± 0.31 |",
        "STAR, β 0.0001 to 0.0004, gamma growth, γ 2 | 4321 | 12.3 |",
        "| generator | scratch | flow matching |  | 9876 |",
        "5 s of sound take 0.77 s",
        "2 threads of a x86_64 CPU with AVX512",
        "8.80M",
        "32-band filter bank with noise excitation in front, a linear path around the CNN, 1 context layer",
        "the decoder shapes noise and carriers",
        "The channels are in order before any regularizer",
        "1 are CC0, 1 are CC-BY 3.0",
        r"| 1-110389-A.ogg | dog, springer\|spaniel.wav | soundscalpel.com | CC-BY 3.0 |",
        "13% of the generated clips are as near",
        "so are 11% of the recordings",
        "as shaped noise without pitch | 81.7% of 20",
    ):
        assert text in card, text


def test_commands_in_the_card_exist(measured):
    card = render_card.render_card(measured)
    named = re.findall(r"training/[\w/]+\.(?:py|yaml)", card)
    assert "training/recipes/esc10_generator.yaml" in named
    for path in named:
        assert (CARDS.parent / path).is_file(), path


def test_metadata_is_what_the_hub_reads(measured):
    data = ModelCard(render_card.render_card(measured)).data
    assert (data.library_name, data.pipeline_tag, data.license) == ("star_hf", "text-to-audio", "cc-by-3.0")
    results = {result.metric_type: result.metric_value for result in data.eval_results}
    assert results == {"accuracy": 0.7654, "stft_distance": 1.913, "mel_distance": 1.27, "si_sdr": -3.41}


def test_a_longer_training_stands_beside_the_model(measured):
    assert "trained longer" not in render_card.render_card(measured)
    longer = copy.deepcopy(GENERATION)
    longer["pipeline"]["training"].update(steps=7777, minutes=95.02)
    longer["generated"]["judge"]["per_class"]["sea_waves"] = 0.55
    longer["generated"]["novelty"]["near_copies"] = 0.71
    folder = Path(measured.cards) / "tiny" / "longer"
    folder.mkdir()
    (folder / "generation.json").write_text(json.dumps(longer))
    card = render_card.render_card(measured)
    assert "| this model | 9876 | 12.3 | 76.5% | sea waves, 63.1% | 13% |" in card
    assert "| trained longer | 7777 | 95 | 76.5% | sea waves, 55% | 71% |" in card


def test_another_measurement_gives_another_card(measured):
    before = render_card.render_card(measured)
    changed = copy.deepcopy(GENERATION)
    changed["generated"]["judge"]["accuracy"] = 0.123
    _write(Path(measured.cards), changed, RECONSTRUCTION)
    after = render_card.render_card(measured)
    assert "**12.3%** of 20" in after and after != before


def test_a_missing_number_is_an_error(measured, capsys):
    incomplete = copy.deepcopy(GENERATION)
    del incomplete["speed"]["seconds_single_clip"]
    _write(Path(measured.cards), incomplete, RECONSTRUCTION)
    with pytest.raises(ValueError, match="seconds_single_clip"):
        render_card.render_card(measured)


def test_missing_files_are_named(measured, capsys):
    with pytest.raises(SystemExit):
        render_card.main(["--name", "other", "--cards", measured.cards])
    assert "generation.json is missing" in capsys.readouterr().err
    measured.attribution = "nowhere.csv"
    with pytest.raises(ValueError, match=r"nowhere\.csv is missing"):
        render_card.render_card(measured)
    measured.autoencoder = "other"
    with pytest.raises(ValueError, match="measured ones: star, isotropic"):
        render_card.render_card(measured)


def test_the_script_writes_the_card(measured):
    argv = ["--name", "tiny", "--cards", measured.cards, "--attribution", measured.attribution]
    render_card.main(argv)
    assert (Path(measured.cards) / "tiny.md").read_text() == render_card.render_card(measured)
