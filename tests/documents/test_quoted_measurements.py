"""What pages quote of the measured comparisons is what their JSON holds."""

from __future__ import annotations

import json
import statistics
from typing import Any

import pytest
from markdown_pages import ROOT

CHOOSING, OWN_VAE = "docs/choosing_a_regularizer.md", "docs/star_on_your_vae.md"
GROWTH = ("step", "linear", "gamma_0.5", "gamma_1.5", "gamma_3")
#: What must stand in a page; names and numbers are those of `values`.
QUOTES = [
    (
        CHOOSING,
        "{at[training_clips]} clips, {at[steps]} steps from one Phase I, {at[held_out_clips]} held-out",
    ),
    (CHOOSING, "held-out clips, a model of {millions:.1f}M parameters"),
    (
        CHOOSING,
        "{tables[training_clips]} clips, {tables[steps]} steps of Phase II, {tables[held_out_clips]} held",
    ),
    (CHOOSING, "{at[steps]} steps took {minutes[control]:.2f} minutes for the control, "),
    (
        CHOOSING,
        "{minutes[adversarial]:.2f} with a small discriminator (only {updates} of the steps "
        "were the autoencoder's)",
    ),
    (
        CHOOSING,
        "{minutes[adversarial_off_encoder]:.2f} with one off the encoder, {minutes[lafa]:.2f} for LAFA",
    ),
    (CHOOSING, "{minutes[decoder_only]:.2f} with the encoder frozen"),
    (CHOOSING, "All others took {fastest:.2f} to {slowest:.2f}, which says nothing: the control took "),
    (CHOOSING, "the control took {control[0]:.2f} to {control[1]:.2f} with four seeds"),
    (
        CHOOSING,
        "KL head/tail {m[control][kl_head_tail_ratio]:.2f} → {m[star][kl_head_tail_ratio]:.2f}, against "
        "{m[isotropic][kl_head_tail_ratio]:.2f} for an isotropic KL",
    ),
    (CHOOSING, "{star[0]:.2f} ± {star[1]:.2f} against {isotropic[0]:.2f} ± {isotropic[1]:.2f}"),
    (CHOOSING, "within {met[0]:.1%}, {met[1]:.1%}, {met[2]:.1%} and {met[3]:.1%}"),
    (CHOOSING, "held out, 3 became {rates[0]:.2f} and 6 became {rates[1]:.2f}"),
    (
        CHOOSING,
        "{m[control][stft_distance_noise_0.3]:.2f} → {m[isotropic][stft_distance_noise_0.3]:.2f}, "
        "{m[star][stft_distance_noise_0.3]:.2f}, {m[target_kl][stft_distance_noise_0.3]:.2f}; "
        "`target_kl` pays {m[control][stft_distance]:.2f} → {m[target_kl][stft_distance]:.2f} without noise",
    ),
    (
        CHOOSING,
        "{m[control][stft_distance_noise_0.3]:.2f} → {m[latent_noise][stft_distance_noise_0.3]:.2f}, "
        "at the same",
    ),
    (CHOOSING, "at σ 0.5: {m[control][stft_distance]:.2f} → {m[sigma_vae][stft_distance]:.2f}"),
    (
        CHOOSING,
        "latent correlation {m[control][latent_correlation]:.3f} → {m[semantic][latent_correlation]:.3f}, "
        "rate {m[control][rate_kbps]:.1f} → {m[semantic][rate_kbps]:.1f} kbit/s, STFT distance "
        "{m[control][stft_distance]:.2f} → {m[semantic][stft_distance]:.2f}",
    ),
    (
        CHOOSING,
        "local predictability {locality[0]:.3f} → {locality[1]:.3f} over two seeds, at an STFT distance of "
        "{distance[0]:.2f} → {distance[1]:.2f}",
    ),
    (OWN_VAE, "{at[steps]} steps from one Phase I, {minutes[star]:.1f} minutes on one core"),
    (OWN_VAE, "made differences of {eighths}"),
    (
        OWN_VAE,
        "rose to {m[isotropic][kl_head_tail_ratio]:.2f} without STAR and to "
        "{m[star][kl_head_tail_ratio]:.2f} with it",
    ),
]


def document(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "docs" / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    comparison, tables = document("regularizers/comparison.json"), document("results/autoencoders.json")
    methods, sweep = comparison["methods"], document("regularizers/rate_sweep.json")["points"]
    minutes = {name: method["minutes"] for name, method in methods.items()}
    named = ("control", "adversarial", "adversarial_off_encoder", "lafa", "decoder_only")
    others = [value for name, value in minutes.items() if name not in named]
    control = [minutes["control"], *(repeat["minutes"] for repeat in comparison["repeats"].values())]

    def seeds(run: str, metric: str) -> tuple[float, float]:
        """Mean and half of the range."""
        found = [tables["runs"][f"{run}_seed{seed}"]["metrics"][metric] for seed in (0, 1)]
        return statistics.fmean(found), (max(found) - min(found)) / 2

    def eighths(name: str) -> list[float]:
        kl = methods[name]["latents"]["kl_per_channel"]
        size = len(kl) // 8
        return [statistics.fmean(kl[start : start + size]) for start in range(0, len(kl), size)]

    differences = [star - flat for star, flat in zip(eighths("star"), eighths("isotropic"), strict=True)]
    lafa = ("mamba_phase1", "mamba_lafa")
    return {
        "at": comparison["settings"],
        "tables": tables["settings"],
        "m": {name: method["metrics"] for name, method in methods.items()},
        "millions": methods["control"]["parameters"] / 1e6,
        "updates": methods["adversarial"]["updates"],
        "minutes": minutes,
        "fastest": min(others),
        "slowest": max(others),
        "control": (min(control), max(control)),
        "star": seeds("mamba_star", "kl_head_tail_ratio"),
        "isotropic": seeds("mamba_isotropic", "kl_head_tail_ratio"),
        "met": [abs(point["training_deviation"]) for point in sweep],
        "rates": [point["metrics"]["rate_kbps"] for point in sweep],
        "locality": [seeds(run, "local_predictability")[0] for run in lafa],
        "distance": [seeds(run, "stft_distance")[0] for run in lafa],
        "eighths": ", ".join(f"{value:+.2f}" for value in differences).replace("-", "−"),
    }


def test_differences_that_pages_call_small_are():
    runs = document("results/autoencoders.json")["runs"]
    methods = document("regularizers/comparison.json")["methods"]

    def distance(run: str) -> float:
        return statistics.fmean(runs[f"{run}_seed{seed}"]["metrics"]["stft_distance"] for seed in (0, 1))

    growth = [distance(f"mamba_star{ending}") for ending in ("", *(f"_{name}" for name in GROWTH))]
    assert max(growth) / min(growth) - 1 < 0.01
    pairs = [
        (distance(f"{backbone}_star"), distance(f"{backbone}_isotropic")) for backbone in ("cnn", "mamba")
    ]
    pairs.append(tuple(methods[name]["metrics"]["stft_distance"] for name in ("star", "isotropic")))
    assert all(abs(star / isotropic - 1) < 0.01 for star, isotropic in pairs)


@pytest.mark.parametrize(("page", "quote"), QUOTES)
def test_what_a_page_quotes_is_measured(page, quote, values):
    words = quote.format(**values)
    assert words in (ROOT / page).read_text(encoding="utf-8"), f"{page} does not say: {words}"


def test_the_readme_quotes_the_benchmark():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    measurements = json.loads((ROOT / "docs/benchmarks/decode.json").read_text(encoding="utf-8"))[
        "measurements"
    ]
    for one in measurements:
        row = (
            f"| {one['what'].split(',')[0]} | {one['precision']} | {one['peer']:.2f} s "
            f"| {one['ours']:.2f} s | {one['ratio']:.1f}x | "
        )
        assert row in readme
    shares = [round(100 * one["share"]) for one in measurements if one["precision"] == "bfloat16"]
    assert f"at {min(shares)} to {max(shares)}% of the speed" in readme
