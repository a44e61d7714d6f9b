"""The audit of an autoencoder of the tables: channels, truncation, linear probe; once, kept with its run."""

import time
from dataclasses import asdict, dataclass
from typing import Any

import torch

from engine.arguments import option
from engine.checkpoints import EXPORT_NAME
from measurement import write_json
from star_hf.audit import AuditSettings, ClipReader, Codec, Labels, audit_codec, inspect_codec, load_codec
from study.held_out import HeldOut, kept_result, read_result
from study.runs import Run

AUDIT_NAME = "audit.json"
#: The curves of the decoder, and what they are over.
CURVES = {"truncation_head": "channels", "truncation_tail": "channels", "noise": "scale"}


@dataclass
class AuditArguments:
    decoded_clips: int = option(12, "held-out clips that the decoder's curves are measured on")
    decoded_seconds: float = option(5.0, "of each of them")
    label_column: str = option("label", "class for the linear probe; a dataset without it has no probe")
    fold_column: str = option("fold", "clips that are judged together; a dataset without it gets five folds")


def load_run_codec(run: Run) -> Codec:
    """The autoencoder that a run has exported, ready to use."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return load_codec(inspect_codec(run.folder / EXPORT_NAME), device)


def audited(run: Run, held_out: HeldOut, arguments: AuditArguments) -> dict[str, Any]:
    """The audit of a finished run, made now unless its folder holds that of this step.

    `held_out` is the report on the clips that no training has seen. The linear probe needs more clips and is
    measured on all: each is read by a classifier of the other folds, and no autoencoder ever saw a class.
    """
    file, state = run.folder / AUDIT_NAME, run.state()
    mark = {"step": state["step"], **held_out.settings(), **asdict(arguments)}
    kept = kept_result(file, mark)
    if kept is not None:
        return kept
    started = time.monotonic()
    codec = load_run_codec(run)
    everything, (_, unseen) = held_out.dataset(), held_out.split()
    labels = None
    if arguments.label_column in everything.column_names:
        has_folds = arguments.fold_column in everything.column_names
        folds = list(everything[arguments.fold_column]) if has_folds else None
        labels = Labels(list(everything[arguments.label_column]), folds)
    settings = AuditSettings(
        decoded_clips=arguments.decoded_clips, decoded_seconds=arguments.decoded_seconds, residuals=False
    )
    print(f"{run.name}: audit ({len(everything)} clips)", flush=True)
    reader = ClipReader(unseen, held_out.audio_column)
    report = audit_codec(codec, reader, settings, name=run.name).report
    probe = None
    if labels is not None:
        reader = ClipReader(everything, held_out.audio_column)
        settings = AuditSettings(decoded_clips=0, residuals=False)
        probe = audit_codec(codec, reader, settings, name=run.name, labels=labels).report["probe"]
    content = {
        "of": mark,
        "measuring_minutes": (time.monotonic() - started) / 60,
        "held_out": report,
        "probe": probe,
    }
    write_json(file, content)
    return read_result(file)


def summary(audit: dict[str, Any]) -> dict[str, Any]:
    """What the tables show of an audit: curves over the kept channels, linear probe, latent statistics."""
    report, probe = audit["held_out"], audit["probe"] or {}
    latents, decoder = report["latents"], report["decoder"] or {}
    return {
        "clips": report["num_clips"],
        "decoded_clips": decoder.get("num_clips", 0),
        **{name: _curve(decoder[name], x) for name, x in CURVES.items() if name in decoder},
        "probe_accuracy": probe.get("accuracy"),
        "probe_chance": probe.get("chance"),
        "probe_clips": probe.get("num_clips"),
        "probe_folds": probe.get("num_folds"),
        "kl_eighths": latents["profile"]["eighths"],
        "kl_rank_correlation": latents["profile"]["rank_correlation"],
        **{
            name: latents[name]
            for name in (
                "effective_dimensions",
                "participation_ratio",
                "latent_correlation",
                "local_predictability",
                "spectral_decay",
                "temporal_difference_ratio",
                "aggregate_kl_per_channel",
            )
        },
    }


def _curve(curve: dict[str, Any], x: str) -> dict[str, Any]:
    return {x: curve["x"], **{key: value for key, value in curve.items() if key != "x"}}
