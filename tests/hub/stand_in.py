"""A small Hugging Face Hub on loopback: users, repositories, commits, large files, and faults on demand.

It answers what the installed huggingface_hub asks for when it creates, fills and reads a repository, in the
way of the Hub: the same paths, status codes and headers. Large files go to a second server, as the Hub's go
to a storage of another host, which must never see a token.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

LARGE_FILES = (".safetensors", ".parquet", ".bin", ".pt", ".flac", ".wav", ".mp3", ".ogg", ".png", ".npz")
LARGE_SIZE = 10_000_000
INITIAL_FILES = {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}


@dataclass(frozen=True)
class User:
    """An account behind a token; `role` is what the token may do: read or write."""

    name: str
    role: str = "write"
    organizations: tuple[str, ...] = ()

    def may_write(self, namespace: str) -> bool:
        return self.role == "write" and namespace in (self.name, *self.organizations)


class Refusal(Exception):
    """An answer other than success, with the Hub's headers for it."""

    def __init__(self, status: int, message: str, code: str | None = None, commit: str | None = None):
        super().__init__(message)
        self.status, self.code, self.commit = status, code, commit


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def is_large(path: str, size: int) -> bool:
    return size > 0 and (path.endswith(LARGE_FILES) or size > LARGE_SIZE)


@dataclass
class Repository:
    """Commits of whole trees, and branches and tags that point to them."""

    kind: str  # model or dataset
    name: str
    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    @property
    def namespace(self) -> str:
        return self.name.split("/")[0]

    def commit(self, files: dict[str, bytes], ref: str = "main", message: str = "initial commit") -> str:
        """Make `files` the tree that `ref` points to."""
        oid = hashlib.sha1(f"{self.kind}{self.name}{len(self.commits)}".encode()).hexdigest()
        self.commits[oid] = dict(files)
        self.refs[ref] = oid
        self.messages.append(message)
        return oid

    def resolve(self, revision: str) -> str:
        oid = self.refs.get(revision, revision)
        if oid not in self.commits:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return oid

    def files(self, revision: str = "main") -> dict[str, bytes]:
        return self.commits[self.resolve(revision)]


@dataclass
class Fault:
    """Breaks the connection, or answers `status`, on requests whose "METHOD /path" matches `pattern`.

    `after_requests` of them pass first, then `times` are hit (None: all). With `after_bytes` the connection
    breaks once so many bytes of the body have been sent or received, counted over all matching requests.
    """

    pattern: str
    status: int | None = None
    after_requests: int = 0
    after_bytes: int | None = None
    times: int | None = None
    passed: int = 0
    hits: int = 0
    bytes: int = 0

    def strikes(self, request: str) -> bool:
        if not re.search(self.pattern, request) or (self.times is not None and self.hits >= self.times):
            return False
        if self.after_bytes is not None:
            return True
        self.passed += 1
        if self.passed <= self.after_requests:
            return False
        self.hits += 1
        return True


class StandIn:
    """The state of the Hub; `stand_in_server.serve` answers for it.

    `requests` lists every "METHOD /path" in order, `ranges` the parts of files that were asked for, `stored`
    the large files by their SHA-256, and `storage_tokens` the tokens that the storage was shown, which must
    stay empty.
    """

    def __init__(self) -> None:
        self.url = self.storage_url = ""
        self.users: dict[str, User] = {}
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.stored: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.storage_tokens: list[str] = []
        self.ranges: list[str] = []
        self.faults: list[Fault] = []
        self.lock = threading.RLock()

    def add_user(self, token: str, user: User) -> str:
        self.users[token] = user
        return token

    def repository(self, name: str, kind: str = "model") -> Repository:
        return self.repositories[kind, name]

    def create(self, name: str, kind: str = "model", files: dict[str, bytes] | None = None, **options):
        """A repository with `files`; options are those of `Repository`."""
        repository = self.repositories[kind, name] = Repository(kind, name, **options)
        repository.commit(INITIAL_FILES)
        if files:
            repository.commit({**INITIAL_FILES, **files}, message="by hand")
        return repository

    @contextmanager
    def fault(self, pattern: str, **options) -> Iterator[Fault]:
        fault = Fault(pattern, **options)
        self.faults.append(fault)
        try:
            yield fault
        finally:
            self.faults.remove(fault)

    def count(self, pattern: str) -> int:
        """How many requests so far match."""
        return sum(bool(re.search(pattern, request)) for request in self.requests)

    def find(self, kind: str, name: str, user: User | None) -> Repository:
        """A repository that `user` may see; else the Hub does not tell whether it exists."""
        repository = self.repositories.get((kind, name))
        own = () if user is None else (user.name, *user.organizations)
        if repository is None or (repository.private and repository.namespace not in own):
            raise Refusal(404 if user else 401, "Repository not found", "RepoNotFound")
        return repository

    def find_for_writing(self, kind: str, name: str, user: User | None) -> Repository:
        repository = self.find(kind, name, user)
        if user is None:
            raise Refusal(401, "Invalid username or password.")
        if not user.may_write(repository.namespace):
            raise Refusal(403, "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request")
        return repository
