"""`star-hf push`: a model, an adapter or a latent dataset to the Hub."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer

from star_hf.cli import options
from star_hf.cli.console import Reporter
from star_hf.hub import UploadPlan, plan_upload, push_folder

#: Files of one folder that stay for one reason are counted from so many on.
NAMED = 8
#: Characters of a value of the metadata.
LINE = 80


def push(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="Pipeline, autoencoder, generator, adapter, latents, or a run."
        ),
    ],
    repo_id: Annotated[str, typer.Argument(metavar="USER/NAME", help="Repository; made if it is not there.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    revision: Annotated[
        str | None, typer.Option("--revision", help="Branch; made if it is not there.", show_default="main")
    ] = None,
    message: Annotated[
        str | None, typer.Option("--message", help="Of the commit.", show_default="Upload and the class")
    ] = None,
    license: Annotated[
        str | None, typer.Option("--license", help="Such as cc-by-4.0, where README.md says none.")
    ] = None,
    base_model: Annotated[
        str | None, typer.Option("--base-model", help="Hub id of what an adapter adapts, if it does not say.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a repository that holds something else.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be sent; send nothing.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Upload a model, an adapter or a latent dataset to the Hugging Face Hub, in one commit."""
    reporter = Reporter(as_json)
    if dry_run:
        plan = plan_upload(folder, repo_id, license=license, base_model=base_model)
        for note in plan.notes:
            reporter.note(f"note: {note}")
        for line in [*describe_sent(plan), *describe_left_out(plan)]:
            reporter.result(line)
        reporter.result(f"nothing was sent; without --dry-run this goes to {repo_id}")
        reporter.document({"repo_id": repo_id, "sent": False, **as_document(plan)})
        return
    result = push_folder(
        folder,
        repo_id,
        private=private,
        revision=revision,
        message=message,
        license=license,
        base_model=base_model,
        overwrite=overwrite,
        say=reporter.note,
    )
    for line in describe_left_out(result.plan):
        reporter.note(line)
    size = f"{len(result.plan.files)} files, {_size(result.plan.size)}"
    reporter.note(f"{size}, commit {result.commit}" if result.changed else f"{size}: all there already")
    reporter.result(result.url)
    reporter.document(
        {
            "repo_id": repo_id,
            "sent": True,
            "url": result.url,
            "commit": result.commit,
            "changed": result.changed,
            "removed": list(result.removed),
            **as_document(result.plan),
        }
    )


def describe_sent(plan: UploadPlan) -> list[str]:
    """Every file that is sent, with its size, and the card's metadata."""
    lines = [
        f"{plan.kind}, to a {plan.kind.repo_type} repository: {len(plan.files)} files, {_size(plan.size)}"
    ]
    width = max(len(file.path) for file in plan.files)
    lines += [f"  {file.path:<{width}}  {_size(file.size):>9}" for file in plan.files]
    lines.append("metadata")
    return lines + [f"  {key}: {_short(value)}" for key, value in plan.metadata.items() if value]


def describe_left_out(plan: UploadPlan) -> list[str]:
    """What stays and why."""
    lines = ["not sent"] if plan.left_out else []
    key = _folder_and_reason
    for (folder, reason), group in groupby(sorted(plan.left_out, key=key), key=key):
        files = list(group)
        if len(files) < NAMED:
            lines += [f"  {file.path}: {reason}" for file in files]
        else:
            size = _size(sum(file.size for file in files))
            lines.append(f"  {folder or '.'}/: {len(files)} files, {size}: {reason}")
    return lines


def as_document(plan: UploadPlan) -> dict[str, Any]:
    return {
        "folder": str(plan.folder),
        "kind": plan.kind.name,
        "class": plan.kind.class_name,
        "repo_type": plan.kind.repo_type,
        "size_in_bytes": plan.size,
        "files": [{"path": file.path, "size_in_bytes": file.size} for file in plan.files],
        "left_out": [
            {"path": file.path, "size_in_bytes": file.size, "reason": file.reason} for file in plan.left_out
        ],
        "notes": list(plan.notes),
        # YAML knows dates, JSON does not
        "metadata": json.loads(json.dumps(dict(plan.metadata), default=str)),
    }


def _folder_and_reason(file: Any) -> tuple[str, str]:
    return file.path.partition("/")[0] if "/" in file.path else "", file.reason


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= LINE else f"{text[:LINE]}…"


def _size(size: int) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size = size / 1000
    return f"{size:.1f} GB"
