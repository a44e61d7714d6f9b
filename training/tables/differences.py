"""What this study has otherwise than the papers, as rows of a table."""

from collections.abc import Iterator, Mapping
from typing import Any

from tables.columns import BACKBONE_NAMES, GENERATOR_NAMES, is_lafa
from tables.documents import Documents

Row = tuple[str, str, str]
OWN_EMBEDDER = "LogMelEmbedder"


def differences(documents: Documents) -> list[Row]:
    """What, here, in the papers: what the JSON tells of."""
    settings = documents.autoencoders["settings"]
    return [
        *_data(settings),
        *_training(settings),
        *_autoencoders(documents, settings),
        *_weights(documents),
        *_generators(documents),
        *_embedders(documents, settings),
    ]


def _data(settings: Mapping[str, Any]) -> Iterator[Row]:
    clips = (
        f"`{settings['dataset']}`: {settings['training_clips']} clips to train on, "
        f"{settings['held_out_clips']} held out to measure on"
    )
    papers = (
        "STAR-VAE: measured on AudioCaps and Song Describer; LAFA: trained on 436,602 recordings (6,207 h)"
    )
    yield "recordings", clips, papers


def _training(settings: Mapping[str, Any]) -> Iterator[Row]:
    steps = f"{settings['phase1_steps']} steps of Phase I, {settings['steps']} of Phase II"
    lafa = settings.get("lafa_steps")
    steps += "" if lafa is None else f", {lafa} of LAFA"
    crops = settings.get("crop_samples")
    batch = f"batches of {settings['batch_size']}" + ("" if crops is None else f" crops of {crops} samples")
    yield (
        "training of an autoencoder",
        f"{steps}; {batch}",
        "LAFA: 600,000 steps of batch 64, on top of its VAE",
    )
    losses = settings.get("losses")
    if losses is not None and not losses.get("adversarial"):
        yield "adversarial loss", "none", "STAR-VAE: STFT discriminators and feature matching"


def _autoencoders(documents: Documents, settings: Mapping[str, Any]) -> Iterator[Row]:
    sizes = {
        run["backbone"]: run["parameters"]
        for run in documents.runs.values()
        if not is_lafa((run["backbone"], run["regularizer"]))
    }
    listed = ", ".join(f"{BACKBONE_NAMES[name]} {_millions(size)}" for name, size in sizes.items())
    yield "autoencoders", listed, "STAR-VAE: Stable Audio Open's CNN of five blocks, with and without Mamba"
    model = settings.get("model") or {}
    parts = []
    if model.get("filterbank_bands"):
        parts.append(f"a fixed filterbank of {model['filterbank_bands']} bands in front of a shallow CNN")
    if model.get("filterbank_type") == "noise_excited":
        parts.append("a decoder that shapes noise, so that phases, and with them SI-SDR, are not kept")
    if model.get("linear_shortcut"):
        parts.append(
            "a linear shortcut around the networks, which orders the channels by variance from the start"
        )
    if parts:
        yield "their architecture", "; ".join(parts), "none of these"


def _weights(documents: Documents) -> Iterator[Row]:
    """β of STAR, as its runs were told it."""
    told = (run["differs"] for run in documents.runs.values() if run["regularizer"] == "star")
    ends = next(((each.get("regularizer.beta_min"), each.get("regularizer.beta_max")) for each in told), None)
    if ends is not None and None not in ends:
        yield "STAR's β", f"{ends[0]:g} to {ends[1]:g}", "1e-4 to 4e-4"


def _generators(documents: Documents) -> Iterator[Row]:
    sizes = {
        kind: report["generator_parameters"]
        for each in documents.probed_reports()
        for kind, report in each["generators"].items()
    }
    if sizes:
        listed = ", ".join(f"{GENERATOR_NAMES[kind]} {_millions(size)}" for kind, size in sizes.items())
        steps = " and ".join(map(str, documents.budgets))
        yield (
            "generators",
            f"{listed}; judged after {steps} steps",
            "STAR-Gen: 905M; LAFA's DiT: 1,000,000 steps",
        )


def _embedders(documents: Documents, settings: Mapping[str, Any]) -> Iterator[Row]:
    reconstructions = settings.get("embedder")
    generated = documents.generators and documents.generators["settings"]["embedder"]
    for what, embedder, papers in (
        ("FAD", reconstructions, "not named on the poster"),
        ("Fréchet distance of what is generated", generated, "OpenL3"),
    ):
        if embedder:
            note = (
                ": log-mel statistics, comparable with no other embedder's"
                if embedder == OWN_EMBEDDER
                else ""
            )
            yield what, f"embeddings of `{embedder}`{note}", papers


def _millions(parameters: int) -> str:
    return f"{parameters / 1e6:.2f}M"
