"""A card says what was measured: all of it, nothing else, and nothing half."""

from __future__ import annotations

import ast
import copy
import json
import re
from dataclasses import replace

import pytest
from huggingface_hub import ModelCard

from star_hf.cards import MissingMeasurement, check_card, render_card, write_card


def test_measurements_are_in_the_card(request_card):
    card = render_card(request_card).text
    for text in (
        "Made for tests, from 318 recordings.",
        "## Intended use and limits\n\nNothing but tests.",
        "## A story of its own\n\nIt took 23.4 minutes.",
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
        "| autoencoder, star | scratch | stft 1, waveform 10 | STAR, β 0.0001 to 0.0004, gamma growth, γ 2 |",
        "| – | – | – | 4321 | 12.3 |",
        "| generator | scratch | flow matching |  | – | – | – | 9876 | 23.4 |",
        "5 s of sound take 0.77 s",
        "2 threads of a x86_64 CPU with AVX512",
        "| 8.80M |",
        "32-band filter bank with noise excitation in front, a linear path around the CNN, 1 context layer",
        "the decoder shapes noise and carriers",
        "The channels are in order before any regularizer",
        r"| 1-110389-A.ogg | dog, springer\|spaniel.wav | soundscalpel.com | CC-BY |",
        "13% of the generated clips are as near",
        "as shaped noise without pitch | 81.7% of 20",
        "on 24 clips of `sounds/train` (drawn with seed 0), 2 minutes, 5,184 frames",
        "| KL, nats per frame | 5.44 | 0.37 |",
        "| channels kept | 1 | 2 |",
        "| the first, STFT distance | 1.94 | 1.11 |",
        "| the last, mel distance | 6.94 | 2.22 |",
        "| Rate (KL), kbit/s | 4.56 |",
        "| LC | 0.064 |",
        "No piece of audio was long enough.",
        "| latent frames per second | 21.5 | 43.1 |",
        "| parameters of the generator | 905M | 8.80M |",
        "| adversarial loss | yes | no |",
        "star-hf audit model sounds/train -o measurements",
        "star-hf card measured",
        "Versions: torch 2.13.0.",
        "`cc-by-4.0`",
        "arXiv preprint arXiv:2606.23064",
    ):
        assert text in card, text
    assert "None" not in card and "{{" not in card and "\n\n\n" not in card
    assert "Spectral decay" not in card, "a number that is not defined has no row"


def test_metadata_is_what_the_hub_reads(request_card):
    data = ModelCard(render_card(request_card).text).data
    assert (data.library_name, data.pipeline_tag, data.license) == ("star_hf", "text-to-audio", "cc-by-4.0")
    assert data.datasets == ["sounds"] and data.model_name == "tiny"
    # A library's name among the tags would have the Hub show that library's code.
    assert {"audio", "flow-matching", "star", "sound-effects"} <= set(data.tags)
    assert not {"diffusers", "transformers", "peft"} & set(data.tags)
    results = {result.metric_type: result for result in data.eval_results}
    assert {name: result.metric_value for name, result in results.items()} == {
        "accuracy": 0.7654,
        "stft_distance": 1.913,
        "mel_distance": 1.27,
        "si_sdr": -3.41,
        "rate_kbps": 4.561,
    }
    settings = results["accuracy"].metric_args
    assert settings == {"clips": 20, "seed": 1000, "steps": 24, "guidance": 3.0, "seconds": 5.0}
    assert results["stft_distance"].dataset_name == results["rate_kbps"].dataset_name == "sounds"


def _leaf(document, path):
    for key in path[:-1]:
        document = document[key]
    return document, path[-1]


@pytest.mark.parametrize(
    ("file", "path"),
    [
        ("generation.json", ("generated", "judge", "accuracy")),
        ("generation.json", ("generated", "judge", "confusion", "rain", "sea_waves")),
        ("generation.json", ("generated", "novelty", "copy_distance")),
        ("generation.json", ("ceiling", "through_vae", "accuracy")),
        ("generation.json", ("settings", "guidance")),
        ("generation.json", ("settings", "seed")),
        ("generation.json", ("pipeline", "parameters", "vae")),
        ("generation.json", ("pipeline", "training", "minutes")),
        ("generation.json", ("speed", "seconds_single_clip")),
        ("reconstruction.json", ("autoencoders", "star", "stft_distance", "mean")),
        ("reconstruction.json", ("autoencoders", "isotropic", "si_sdr", "std")),
        ("reconstruction.json", ("autoencoders", "star", "latents", "rate_kbps")),
        ("reconstruction.json", ("autoencoders", "star", "training", "regularizer", "beta_max")),
        ("audit.json", ("autoencoders", "star", "latents", "profile", "eighths", 1)),
        ("audit.json", ("autoencoders", "star", "decoder", "truncation_tail", "mel", 0)),
        ("audit.json", ("autoencoders", "star", "decoder", "noise", "stft", 2)),
        ("audit.json", ("autoencoders", "star", "probe", "accuracy")),
    ],
)
def test_a_card_whose_numbers_do_not_match_its_json_is_found_out(request_card, documents, put, file, path):
    request_card.target.write_text(render_card(request_card).text)
    changed = copy.deepcopy(documents)
    parent, key = _leaf(changed[file], path)
    parent[key] = parent[key] * 2 + 1
    put(changed)
    with pytest.raises(ValueError, match=r"measured\.md, line \d+: is not what its measurements render to"):
        check_card(request_card)


@pytest.mark.parametrize(
    ("file", "path", "message"),
    [
        ("generation.json", ("speed", "seconds_single_clip"), "speed.seconds_single_clip is missing"),
        ("generation.json", ("generated", "judge", "accuracy"), "generated.judge.accuracy is missing"),
        ("reconstruction.json", ("ceiling", "num_clips"), "ceiling.num_clips is missing"),
        (
            "reconstruction.json",
            ("autoencoders", "isotropic", "mel_distance", "std"),
            "autoencoders.isotropic.mel_distance.std is missing",
        ),
        (
            "audit.json",
            ("autoencoders", "star", "decoder", "truncation_head", "stft"),
            "decoder.truncation_head.stft is missing",
        ),
        (
            "audit.json",
            ("autoencoders", "star", "latents", "participation_ratio"),
            "latents.participation_ratio is missing",
        ),
    ],
)
def test_a_missing_number_is_named_with_its_file(request_card, documents, put, file, path, message):
    parent, key = _leaf(documents[file], path)
    del parent[key]
    put(documents)
    with pytest.raises(MissingMeasurement, match=re.escape(message)) as error:
        write_card(request_card)
    assert str(error.value).startswith(str(request_card.folder / file))
    assert not request_card.target.exists()


def test_what_was_not_measured_is_left_out_whole(request_card, documents, put):
    (request_card.folder / "about.md").unlink()
    titles = {
        "generation.json": "## Does it make what it is asked for?",
        "reconstruction.json": "## How well does the autoencoder keep a sound?",
        "audit.json": "## What the latents carry",
    }
    for file, title in titles.items():
        others = {name: document for name, document in documents.items() if name != file}
        put(others)
        card = render_card(request_card).text
        assert title not in card and file not in card
        assert all(titles[name] in card for name in others)
    del documents["generation.json"]["speed"]
    documents["generation.json"]["generated"]["novelty"] = None
    documents["audit.json"]["autoencoders"]["star"]["decoder"] = None
    put(documents)
    card = render_card(request_card).text
    assert "## Speed" not in card and "Does it copy?" not in card and "Truncation" not in card
    assert "Not stated for the weights" in card


def test_an_autoencoder_alone(request_card, documents, put):
    (request_card.folder / "about.md").unlink()
    put({"audit.json": documents["audit.json"]})
    rendered = render_card(request_card)
    assert rendered.kind == "autoencoder"
    data = ModelCard(rendered.text).data
    assert (data.pipeline_tag, data.library_name) == ("feature-extraction", "star_hf")
    assert "from star_hf import AutoencoderStar" in rendered.text and "905M" not in rendered.text


def test_the_code_in_the_card_is_python(request_card):
    for repo_id in (None, "somebody/tiny"):
        card = render_card(replace(request_card, repo_id=repo_id)).text
        (code,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
        ast.parse(code)
        assert f'from_pretrained("{repo_id or "tiny"}")' in code


def test_another_of_the_measured_autoencoders_may_be_the_models_own(request_card, documents, put):
    data = ModelCard(render_card(replace(request_card, autoencoder="isotropic")).text).data
    assert data.eval_results[1].metric_value == 1.957
    with pytest.raises(ValueError, match="'other' is not among the measured ones: star, isotropic"):
        render_card(replace(request_card, autoencoder="other"))


def test_measurements_of_another_model_are_refused(request_card, tiny_pipeline_folder):
    with pytest.raises(ValueError, match="of another model than .*latent_channels 4, the measured one 64"):
        render_card(replace(request_card, model=tiny_pipeline_folder))


def test_the_same_model_trained_otherwise(request_card, documents):
    about = request_card.folder / "about.md"
    about.write_text("## Longer\n\n{{ variants.longer.generated.judge.accuracy | percent }}\n")
    with pytest.raises(ValueError, match="about.md cannot be filled in.*longer"):
        render_card(request_card)
    documents["generation.json"]["generated"]["judge"]["accuracy"] = 0.123
    (request_card.folder / "longer").mkdir()
    (request_card.folder / "longer" / "generation.json").write_text(json.dumps(documents["generation.json"]))
    assert "## Longer\n\n12.3%" in render_card(request_card).text


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ("{{ generation.settings.sead }}", r"generation\.json: settings\.sead is missing"),
        ("{{ nothing }}", "about.md cannot be filled in: 'nothing' is undefined"),
        ("{{ generation.settings.dataset | percent }}", "about.md cannot be filled in"),
        ("{{ generation.settings.seed", "about.md cannot be filled in"),
        ("## Recipe\n\na\n\n## Recipe\n\nb", "the section 'Recipe' comes twice"),
        ("{{ link('../secret.png') }}", "lies outside of"),
        ("{{ link('missing.png') }}", "missing.png: is missing, and the card shows it"),
        ("{{ generation.__class__.__mro__ }}", "about.md cannot be filled in"),
        ("---\nlicense: [\n---\n", "about.md: its front matter cannot be read"),
        (
            "---\nmodel-index:\n- name: a\n  results:\n  - task: {type: b}\n"
            "    dataset: {name: c, type: c}\n    metrics: [{type: accuracy, value: 1}]\n---\n",
            "results come from the measurements",
        ),
    ],
)
def test_an_about_that_cannot_be_filled_in(request_card, about, message):
    (request_card.folder.parent / "secret.png").write_bytes(b"")
    (request_card.folder / "about.md").write_text(about)
    with pytest.raises(ValueError, match=message):
        render_card(request_card)


def test_a_number_of_a_file_that_is_not_there(request_card, documents, put):
    del documents["generation.json"]
    put(documents)
    with pytest.raises(
        MissingMeasurement, match=r"generation\.json: is missing, and the card needs settings"
    ):
        render_card(request_card)


def test_headings_inside_code_are_no_sections(request_card):
    (request_card.folder / "about.md").write_text("## Recipe\n\n```bash\n## not a title\nmake\n```\n")
    assert "```bash\n## not a title\nmake\n```" in render_card(request_card).text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "generation.json: is not valid JSON"),
        ("[]", "generation.json: must hold a JSON object, not list"),
        ('{"chance": NaN}', "NaN is no number that a card can show"),
    ],
)
def test_broken_files_are_named(request_card, content, message):
    (request_card.folder / "generation.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        render_card(request_card)


def test_folders_without_measurements(request_card, put, tmp_path):
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        render_card(replace(request_card, folder=tmp_path / "nowhere"))
    put({})
    with pytest.raises(ValueError, match="holds none of .*: measure first"):
        render_card(request_card)


@pytest.mark.parametrize("repo_id", ["name", "a/b/c", "somebody/", "https://somewhere/a"])
def test_a_name_that_is_none_on_the_hub_is_refused(request_card, repo_id):
    with pytest.raises(ValueError, match="`repo_id` must be user/name"):
        render_card(replace(request_card, repo_id=repo_id))


def test_a_list_of_recordings_without_authors_is_refused(request_card):
    (request_card.folder / "ATTRIBUTION.csv").write_text("title,license\na,CC0\n")
    with pytest.raises(ValueError, match=r"ATTRIBUTION\.csv: has no author"):
        render_card(request_card)
