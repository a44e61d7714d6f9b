"""What a push would send, decided on this machine before anything is sent."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .card import PlannedCard, plan_card
from .checks import check_complete, check_file
from .contents import AUDIO, CARD, PICTURES, TEXTS, Contents, is_document, is_hidden
from .kinds import CONFIG, EXPORT_FOLDER, LATENTS_FILE, MODEL_INDEX, Kind, read_json_file, recognize_folder

_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
#: Entries of configurations in which libraries note where something was loaded from.
_ORIGINS = ("_name_or_path", "name_or_path", "base_model_name_or_path")


@dataclass(frozen=True)
class PlannedFile:
    """`path` in the repository, its `size` in bytes, and the `content`: a file of this machine, or bytes."""

    path: str
    size: int
    content: Path | bytes


@dataclass(frozen=True)
class LeftOut:
    """A file of the folder, by its path there, that is not sent, and why."""

    path: str
    size: int
    reason: str


@dataclass(frozen=True)
class UploadPlan:
    """Exactly what is sent: `files`, to a repository of `kind.repo_type`.

    `folder` is where the files are, `left_out` what stays there, `notes` what a person should know,
    `metadata` that of the card.
    """

    folder: Path
    kind: Kind
    files: tuple[PlannedFile, ...]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    metadata: Mapping[str, Any]
    contents: Contents

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)


def plan_upload(
    folder: str | os.PathLike[str],
    repo_id: str | None = None,
    *,
    license: str | None = None,
    base_model: str | None = None,
) -> UploadPlan:
    """What a push of `folder` sends; nothing is written, and the Hub is not asked.

    Args:
        folder: of a StarGenPipeline or StableAudioPipeline, an AutoencoderStar or AutoencoderLafa, a
            StarGenModel, an adapter, or a latent dataset; or of a training run, whose `export/` is meant.
        repo_id: "user/name" that it goes to, which a card that has to be written tells.
        license: identifier of the Hub, such as "apache-2.0", where the card does not say one.
        base_model: Hub id of the model under an adapter, where neither it nor the card says one.

    Raises:
        FileNotFoundError, NotADirectoryError: no such folder.
        ValueError: no name of the Hub, nothing of these kinds, a file that is missing, damaged or not what
            its suffix says, a secret in a text, or a card that cannot be shown; each names the file.
    """
    if repo_id is not None:
        check_name(repo_id)
    folder, notes = _published_folder(Path(folder).expanduser())
    kind = recognize_folder(folder)
    index = read_json_file(folder / MODEL_INDEX) if kind.name == "pipeline" else None
    contents = Contents(kind, index)
    secrets = _known_secrets()
    there = {file.relative_to(folder).as_posix(): file for file in _all_files(folder)}
    sent = {path for path in there if contents.is_payload(path) or is_document(path)} - {CARD}
    check_complete(folder, contents, sent)
    for path in sorted(sent):
        check_file(there[path], path, secrets)
        notes += _notes_on_file(there[path], path)

    card = plan_card(folder, kind, repo_id, {"license": license, "base_model": base_model}, secrets)
    notes += _notes_on_card(folder, card, kind)
    if repo_id is not None:
        notes += _notes_on_name(card, repo_id, there)
    shown = card.shown_files(repo_id) - sent - {CARD}
    _check_shown(folder, shown, there, contents)
    for path in sorted(shown & set(there)):
        check_file(there[path], path, secrets)
    sent |= shown & set(there)

    text = there[CARD].read_bytes() if card.unchanged else card.text.encode()
    files = [PlannedFile(CARD, len(text), text)]
    files += [PlannedFile(path, there[path].stat().st_size, there[path]) for path in sorted(sent)]
    left_out = [
        LeftOut(path, there[path].stat().st_size, contents.reason_against(path))
        for path in sorted(set(there) - sent - {CARD})
    ]
    return UploadPlan(folder, kind, tuple(files), tuple(left_out), tuple(notes), card.metadata, contents)


def check_name(repo_id: str) -> None:
    """Raise `ValueError` for what is no "user/name" of the Hub."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(f"{repo_id!r} is not a name of the Hub: {error}") from error
    if repo_id.count("/") != 1:
        raise ValueError(f"{repo_id!r} is not a name of the Hub: it must be user/name or organization/name.")


def _published_folder(folder: Path) -> tuple[Path, list[str]]:
    """The folder that is meant: of a training run its export."""
    if folder.is_file():
        raise NotADirectoryError(f"{folder}: is a file; what is pushed is a folder.")
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: this folder does not exist.")
    if any((folder / name).is_file() for name in (MODEL_INDEX, CONFIG, LATENTS_FILE)):
        return folder, []
    if (folder / EXPORT_FOLDER).is_dir():
        note = f"{folder} is a training run: its {EXPORT_FOLDER}/ is sent, nothing else of it."
        return folder / EXPORT_FOLDER, [note]
    if (folder / "checkpoints").is_dir():
        raise ValueError(f"{folder}: is a training run that has not saved a model yet ({EXPORT_FOLDER}/).")
    return folder, []


def _all_files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != ".git")
        for name in sorted(names):
            if (file := Path(parent, name)).is_file():
                yield file


def _check_shown(folder: Path, shown: Collection[str], there: Mapping[str, Path], contents: Contents) -> None:
    """What the card shows must be there, and be something that may be sent."""
    for path in sorted(shown):
        if path not in there:
            if not (folder / path).is_dir():
                raise ValueError(f"{folder / CARD}: shows {path}, which is not in {folder}.")
        elif not path.lower().endswith((*AUDIO, *PICTURES, *TEXTS)) or is_hidden(path):
            reason = contents.reason_against(path)
            raise ValueError(f"{folder / CARD}: links to {path}, which is not sent ({reason}).")


def _notes_on_card(folder: Path, card: PlannedCard, kind: Kind) -> list[str]:
    base = card.metadata.get("base_model")
    if kind.name == "adapter" and (not isinstance(base, str) or not _HUB_ID.fullmatch(base)):
        raise ValueError(
            f"{folder}: this adapter does not say which model of the Hub it adapts, so that nobody could "
            f"load it: give its id with --base-model, or as `base_model` in {CARD}; got {base!r}."
        )
    notes = []
    if card.written:
        notes.append(f"there is no {CARD}: a short one is sent, which says what the configuration says.")
    elif card.added:
        notes.append(f"metadata added to {CARD} as it is sent: {', '.join(card.added)}.")
    if not card.metadata.get("license"):
        notes.append(f"{CARD} names no license: nobody else may use it. Give one with --license.")
    if "[More Information Needed]" in card.text:
        notes.append(f"{CARD} says '[More Information Needed]' in places.")
    return notes


def _notes_on_name(card: PlannedCard, repo_id: str, there: Collection[str]) -> list[str]:
    """Links to files that are in the folder, but lead to a repository of another name."""
    foreign = {path: other for path, other in card.foreign_files(repo_id).items() if path in there}
    return [
        f"{CARD} links to files of {other}, not of {repo_id}: write it again with --repo {repo_id}."
        for other in sorted(set(foreign.values()))
    ]


def _notes_on_file(file: Path, path: str) -> list[str]:
    """Folders of this machine that a configuration names."""
    if file.suffix != ".json":
        return []
    config = read_json_file(file)
    origins = {key: config[key] for key in _ORIGINS if isinstance(config.get(key), str)}
    return [
        f"{path}: {key!r} names {origin!r}, a folder of this machine."
        for key, origin in origins.items()
        if origin.startswith(("/", "~", ".")) or "\\" in origin
    ]


def _known_secrets() -> list[str]:
    from huggingface_hub import get_token

    token = get_token()
    return [token] if token else []
