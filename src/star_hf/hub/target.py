"""The repository on the Hub that a push goes to: what it holds, and whether the push may go there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .contents import is_document
from .errors import HubError
from .kinds import Kind, read_json_file, recognize
from .plan import UploadPlan

if TYPE_CHECKING:
    from huggingface_hub import HfApi

GIT_FILES = (".gitattributes", ".gitignore")


@dataclass(frozen=True)
class Target:
    """A repository at the head of one branch: `commit`, and by path the sizes of its `files`.

    `exists` and `branch_exists` tell whether repository and branch are there already. `kind` is that of what
    they hold: None where that is nothing but a card and a licence, and a text where it is something else.
    """

    exists: bool
    private: bool
    branch_exists: bool
    commit: str | None
    files: Mapping[str, int]
    kind: Kind | str | None


def look_at(api: HfApi, repo_id: str, repo_type: str, revision: str | None) -> Target:
    """What a push to `revision`, by default the main branch, would find.

    Raises what the client raises, except for a repository or a branch that is not there yet.
    """
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        repository: Any = api.repo_info(repo_id, repo_type=repo_type)
    except GatedRepoError:
        raise
    except RepositoryNotFoundError:
        return Target(False, False, False, None, {}, None)
    commit, branch_exists = repository.sha, True
    if revision is not None:
        try:
            commit = api.repo_info(repo_id, repo_type=repo_type, revision=revision).sha
        except RevisionNotFoundError:
            branch_exists = False
    files = files_at(api, repo_id, repo_type, commit)
    kind = _kind_of(api, repo_id, repo_type, commit, files)
    return Target(True, bool(repository.private), branch_exists, commit, files, kind)


def files_at(api: HfApi, repo_id: str, repo_type: str, commit: str | None) -> dict[str, int]:
    """Sizes of all files at a commit, by path."""
    entries = api.list_repo_tree(repo_id, repo_type=repo_type, revision=commit, recursive=True)
    return {entry.path: entry.size for entry in entries if hasattr(entry, "size")}


def check_may_replace(target: Target, kind: Kind, repo_id: str, overwrite: bool) -> None:
    """Raise `HubError` where the repository holds something else than a push would bring."""
    if target.kind is None or overwrite or target.kind == kind:
        return
    raise HubError(
        f"{repo_id} on the Hub holds {target.kind}, not {kind}: choose another name, or let `star-hf push` "
        "replace all that is there with --overwrite (its history keeps it)"
    )


def outdated_files(target: Target, plan: UploadPlan) -> list[str]:
    """Files of the repository that go with the push: parts of the older model that the new one does not have.

    Where something else is replaced, everything goes. What a person has added stays.
    """
    sent = {file.path for file in plan.files}
    here = [path for path in target.files if path not in sent and path not in GIT_FILES]
    if target.kind is not None and target.kind != plan.kind:
        return sorted(here)
    return sorted(path for path in here if plan.contents.is_payload(path))


def _kind_of(
    api: HfApi, repo_id: str, repo_type: str, commit: str | None, files: Iterable[str]
) -> Kind | str | None:
    names = {path for path in files if "/" not in path}
    if all(path in GIT_FILES or is_document(path) for path in files):
        return None

    def read_json(name: str) -> dict[str, Any]:
        return read_json_file(Path(api.hf_hub_download(repo_id, name, repo_type=repo_type, revision=commit)))

    try:
        return recognize(names, read_json)
    except ValueError as error:
        # "holds a …; known are …"
        return str(error).split(";")[0].split(" (")[0].removeprefix("holds ")
