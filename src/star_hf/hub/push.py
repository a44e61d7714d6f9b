"""Send a model, an adapter or a latent dataset to the Hub."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import LOG_IN, HubError, explained
from .kinds import Kind
from .plan import UploadPlan, plan_upload
from .target import Target, check_may_replace, files_at, look_at, outdated_files

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Say = Callable[[str], None]


@dataclass(frozen=True)
class PushResult:
    """Where it is now: `url` of the page, `commit`, the `plan` that was carried out, and what was `removed`.

    `changed` is False where the Hub had all of it already.
    """

    repo_id: str
    url: str
    commit: str
    changed: bool
    plan: UploadPlan
    removed: tuple[str, ...]


def push_folder(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
    license: str | None = None,
    base_model: str | None = None,
    overwrite: bool = False,
    token: str | None = None,
    say: Say = lambda line: None,
) -> PushResult:
    """Push what `plan_upload` plans for `folder` to the repository `repo_id` on the Hub, in one commit.

    The repository is made if it is not there. Large files are sent first, and then one commit names them all:
    until then the repository is as it was, and whatever stops the push, the same call goes on from there.
    Parts of an older version that the new one lacks, such as shards of weights, go with the commit.

    Args:
        private: make a new repository private; of one that exists this is only checked.
        revision: branch to push to, made from the main one if it is not there.
        message: of the commit.
        license, base_model: see `plan_upload`.
        overwrite: replace a repository that holds something else.
        token: by default that of `hf auth login` or `HF_TOKEN`.
        say: is told what happens, in lines for people.

    Raises:
        ValueError: what `plan_upload` raises; nothing has been sent.
        HubError: an `OSError` that says in one line what the Hub refuses and what to do.
    """
    from huggingface_hub import HfApi

    plan = plan_upload(folder, repo_id, license=license, base_model=base_model)
    for note in plan.notes:
        say(f"note: {note}")
    api = HfApi(token=token)
    with explained(f"{plan.folder} cannot be pushed to {repo_id}", repo_id):
        target = _check_target(api, repo_id, plan.kind, private, revision, overwrite)
        _check_card(plan)
        target = _prepare(api, repo_id, plan, target, private, revision, say)
        removed = outdated_files(target, plan)
        commit = _commit(api, repo_id, plan, target, removed, revision, message)
        _verify(api, repo_id, plan, removed, commit)
    changed = commit != target.commit
    if removed:
        say(f"removed there, no longer part of it: {', '.join(removed)}")
    prefix = "datasets/" if plan.kind.repo_type == "dataset" else ""
    return PushResult(repo_id, f"{api.endpoint}/{prefix}{repo_id}", commit, changed, plan, tuple(removed))


def check_push(
    repo_id: str,
    kind: Kind,
    *,
    private: bool = False,
    revision: str | None = None,
    overwrite: bool = False,
    token: str | None = None,
) -> None:
    """Whether a push of `kind` could go to `repo_id` now; nothing is sent.

    The arguments are those of `push_folder`. Raises `HubError` where there is no token or it may only read,
    or the repository holds something else, or is public and should be private. Whether the token may write
    there, the Hub tells only when it is asked to.
    """
    from huggingface_hub import HfApi

    with explained(f"nothing could be pushed to {repo_id}", repo_id):
        _check_target(HfApi(token=token), repo_id, kind, private, revision, overwrite)


def _check_target(
    api: HfApi, repo_id: str, kind: Kind, private: bool, revision: str | None, overwrite: bool
) -> Target:
    account = api.whoami()
    token = (account.get("auth") or {}).get("accessToken") or {}
    if token.get("role") == "read":
        raise HubError(f"the token of {account.get('name')} may only read; {LOG_IN} to one that may write")
    target = look_at(api, repo_id, kind.repo_type, revision)
    if private and target.exists and not target.private:
        raise HubError(
            f"{repo_id} exists and is public: make it private in its settings, or do not ask for private"
        )
    check_may_replace(target, kind, repo_id, overwrite)
    return target


def _check_card(plan: UploadPlan) -> None:
    """The Hub's own opinion of the metadata, which is asked for before the repository is made."""
    from huggingface_hub import RepoCard

    content: Any = plan.files[0].content
    try:
        RepoCard(content.decode("utf-8")).validate(plan.kind.repo_type)
    except ValueError as error:
        raise HubError(f"the Hub refuses the metadata of README.md: {_said(str(error))}") from error


def _said(answer: str) -> str:
    """The messages in an answer of the Hub to metadata."""
    try:
        return "; ".join(entry["message"] for entry in json.loads(answer)["errors"])
    except (ValueError, KeyError, TypeError):
        return " ".join(answer.split())


def _prepare(
    api: HfApi,
    repo_id: str,
    plan: UploadPlan,
    target: Target,
    private: bool,
    revision: str | None,
    say: Say,
) -> Target:
    """Make the repository and the branch where they are missing."""
    repo_type = plan.kind.repo_type
    if not target.exists:
        api.create_repo(repo_id, repo_type=repo_type, private=private or None, exist_ok=True)
        say(f"made the {'private ' if private else ''}repository {repo_id}")
    if revision is not None and not target.branch_exists:
        api.create_branch(repo_id, repo_type=repo_type, branch=revision, exist_ok=True)
        say(f"made the branch {revision}")
    if target.exists and (revision is None or target.branch_exists):
        return target
    return look_at(api, repo_id, repo_type, revision)


def _commit(
    api: HfApi,
    repo_id: str,
    plan: UploadPlan,
    target: Target,
    removed: list[str],
    revision: str | None,
    message: str | None,
) -> str:
    """Send all files in one commit on top of the one that was looked at; returns the commit."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    operations: list[Any] = [CommitOperationAdd(file.path, file.content) for file in plan.files]
    operations += [CommitOperationDelete(path) for path in removed]
    info = api.create_commit(
        repo_id,
        operations,
        commit_message=message or f"Upload {plan.kind.class_name}",
        repo_type=plan.kind.repo_type,
        revision=revision,
        parent_commit=target.commit,
    )
    return info.oid


def _verify(api: HfApi, repo_id: str, plan: UploadPlan, removed: list[str], commit: str) -> None:
    """Raise `HubError` where the commit is not what was planned."""
    there = files_at(api, repo_id, plan.kind.repo_type, commit)
    wrong = [f"{file.path} is missing" for file in plan.files if file.path not in there]
    wrong += [
        f"{file.path} has {there[file.path]} bytes instead of {file.size}"
        for file in plan.files
        if there.get(file.path, file.size) != file.size
    ]
    wrong += [f"{path} is still there" for path in removed if path in there]
    if wrong:
        raise HubError(
            f"the Hub has something else than was sent: {'; '.join(wrong)}. Does it have a .gitignore?"
        )
