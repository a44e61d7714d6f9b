"""The HTTP side of the stand-in: which path is answered how."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import yaml
from stand_in import Refusal, Repository, StandIn, User, git_oid, is_large, sha256
from stand_in_http import Handler, StorageHandler

TREE_PAGE = 4  # so few that a listing always takes several requests
LICENSES = {"apache-2.0", "cc-by-3.0", "cc-by-4.0", "cc0-1.0", "mit", "other"}
REPOSITORY = r"/api/(?P<kind>model|dataset)s/(?P<name>[^/]+/[^/]+)"
PAGE = r"/(?P<prefix>datasets/)?(?P<name>[^/]+/[^/]+)"
ROUTES: list[tuple[str, re.Pattern[str], str]] = [
    (method, re.compile(pattern), handler)
    for method, pattern, handler in [
        ("GET", r"/api/whoami-v2", "whoami"),
        ("POST", r"/api/repos/create", "create"),
        ("POST", r"/api/validate-yaml", "validate"),
        ("GET", REPOSITORY, "info"),
        ("GET", REPOSITORY + r"/revision/(?P<revision>[^/]+)", "info"),
        ("GET", REPOSITORY + r"/refs", "refs"),
        ("POST", REPOSITORY + r"/branch/(?P<branch>[^/]+)", "branch"),
        ("GET", REPOSITORY + r"/tree/(?P<revision>[^/]+)(/(?P<folder>.+))?", "tree"),
        ("POST", REPOSITORY + r"/paths-info/(?P<revision>[^/]+)", "paths_info"),
        ("POST", REPOSITORY + r"/preupload/(?P<revision>[^/]+)", "preupload"),
        ("POST", REPOSITORY + r"/commit/(?P<revision>[^/]+)", "commit"),
        ("POST", PAGE + r"\.git/info/lfs/objects/batch", "batch"),
        ("POST", r"/lfs/verify", "verify"),
        ("HEAD", PAGE + r"/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "file"),
        ("GET", PAGE + r"/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "file"),
    ]
]


@contextmanager
def serve(hub: StandIn) -> Iterator[StandIn]:
    """Answer for `hub` on two free ports of 127.0.0.1, the Hub's and the storage's, until the block ends."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for handler in (HubHandler, StorageHandler)]
    for server in servers:
        server.hub = hub
        server.daemon_threads = True
    hub.url, hub.storage_url = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


class HubHandler(Handler):
    """The Hub's own endpoints."""

    def respond(self) -> None:
        address = urlsplit(self.path)
        self.query = {name: values[-1] for name, values in parse_qs(address.query).items()}
        for method, pattern, handler in ROUTES:
            match = pattern.fullmatch(address.path)
            if match and method == self.command:
                arguments = {name: unquote(value) for name, value in match.groupdict().items() if value}
                with self.hub.lock:
                    return getattr(self, f"do_{handler}")(**arguments)
        raise Refusal(404, "Not Found")

    @property
    def user(self) -> User | None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.hub.users:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return self.hub.users.get(token)

    def do_whoami(self) -> None:
        user = self.user
        if user is None:
            raise Refusal(401, "Invalid username or password.")
        organizations = [{"type": "org", "name": name} for name in user.organizations]
        token = {"displayName": "test", "role": user.role}
        self.send_json(
            {"type": "user", "name": user.name, "orgs": organizations, "auth": {"accessToken": token}}
        )

    def do_create(self) -> None:
        wanted, user = json.loads(self._read()), self.user
        if user is None:
            raise Refusal(401, "Invalid username or password.")
        namespace, kind = wanted.get("organization") or user.name, wanted.get("type") or "model"
        name = f"{namespace}/{wanted['name']}"
        if not user.may_write(namespace):
            raise Refusal(
                403, f"You don't have the rights to create a {kind} under the namespace {namespace!r}"
            )
        if (kind, name) in self.hub.repositories:
            raise Refusal(409, f"You already created this {kind} repo")
        private = wanted.get("visibility") == "private" or wanted.get("private") is True
        self.hub.create(name, kind, private=private)
        self.send_json({"url": f"{self.hub.url}/{'datasets/' if kind == 'dataset' else ''}{name}"})

    def do_validate(self) -> None:
        text, errors = json.loads(self._read())["content"], []
        block = re.match(r"---\s*\n(.*?)\n---", text, re.DOTALL)
        try:
            metadata = (yaml.safe_load(block[1]) if block else None) or {}
            names = metadata.get("license", "other")
            if unknown := set(names if isinstance(names, list) else [names]) - LICENSES:
                errors.append(f'"license" must be one of the licenses, not {", ".join(map(str, unknown))}')
        except yaml.YAMLError as error:
            errors.append(f"not YAML: {error}")
        found = {"errors": [{"message": message} for message in errors], "warnings": []}
        self.send_json(found, 400 if errors else 200)

    def do_info(self, kind: str, name: str, revision: str = "main") -> None:
        repository = self.hub.find(kind, name, self.user)
        oid = repository.resolve(revision)
        siblings = [{"rfilename": path} for path in sorted(repository.commits[oid])]
        facts = {"private": repository.private, "gated": repository.gated and "manual", "disabled": False}
        self.send_json({"_id": oid[:24], "id": name, "sha": oid, "siblings": siblings, "tags": [], **facts})

    def do_refs(self, kind: str, name: str) -> None:
        repository = self.hub.find(kind, name, self.user)
        branches = [
            {"name": ref, "ref": f"refs/heads/{ref}", "targetCommit": oid}
            for ref, oid in repository.refs.items()
        ]
        self.send_json({"branches": branches, "tags": [], "converts": []})

    def do_branch(self, kind: str, name: str, branch: str) -> None:
        start = json.loads(self._read() or b"{}").get("startingPoint", "main")
        repository = self.hub.find_for_writing(kind, name, self.user)
        if branch in repository.refs:
            raise Refusal(409, f"Reference already exists: {branch}")
        repository.refs[branch] = repository.resolve(start)
        self.send_json({})

    def do_tree(self, kind: str, name: str, revision: str, folder: str = "") -> None:
        repository = self.hub.find(kind, name, self.user)
        commit = repository.commits[repository.resolve(revision)]
        prefix = f"{folder}/" if folder else ""
        files = sorted(path for path in commit if path.startswith(prefix))
        if folder and not files:
            raise Refusal(404, f"{folder} does not exist on {revision!r}", "EntryNotFound")
        start = int(self.query.get("cursor", 0))
        headers = {}
        if start + TREE_PAGE < len(files):
            base = self.hub.url + self.path.partition("&cursor")[0]
            headers["Link"] = f'<{base}&cursor={start + TREE_PAGE}>; rel="next"'
        page = [_entry(path, commit[path]) for path in files[start : start + TREE_PAGE]]
        self.send_json(page, **headers)

    def do_paths_info(self, kind: str, name: str, revision: str) -> None:
        wanted = parse_qs(self._read().decode()).get("paths", [])
        repository = self.hub.find(kind, name, self.user)
        commit = repository.commits[repository.resolve(revision)]
        self.send_json([_entry(path, commit[path]) for path in wanted if path in commit])

    def do_preupload(self, kind: str, name: str, revision: str) -> None:
        wanted = json.loads(self._read())
        repository = self.hub.find_for_writing(kind, name, self.user)
        there = repository.commits[repository.resolve(revision)]
        answers = []
        for file in wanted["files"]:
            path = file["path"]
            large = is_large(path, file["size"])
            answer = {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            if path in there:
                answer["oid"] = (sha256 if is_large(path, len(there[path])) else git_oid)(there[path])
            answers.append(answer)
        self.send_json({"files": answers})

    def do_batch(self, name: str, prefix: str = "") -> None:
        wanted = json.loads(self._read())
        self.hub.find_for_writing("dataset" if prefix else "model", name, self.user)
        objects = []
        for entry in wanted["objects"]:
            answer = {"oid": entry["oid"], "size": entry["size"]}
            if entry["oid"] not in self.hub.stored:
                upload = {"href": f"{self.hub.storage_url}/upload/{entry['oid']}"}
                answer["actions"] = {"upload": upload, "verify": {"href": f"{self.hub.url}/lfs/verify"}}
            objects.append(answer)
        self.send_json({"transfer": "basic", "objects": objects})

    def do_verify(self) -> None:
        wanted = json.loads(self._read())
        if len(self.hub.stored.get(wanted["oid"], b"")) != wanted["size"]:
            raise Refusal(422, "the upload is not complete")
        self.send_json({})

    def do_commit(self, kind: str, name: str, revision: str) -> None:
        lines = [json.loads(line) for line in self._read().splitlines()]
        repository = self.hub.find_for_writing(kind, name, self.user)
        if revision not in repository.refs:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        header, *changes = ((line["key"], line["value"]) for line in lines)
        if header[1].get("parentCommit") not in (None, repository.refs[revision]):
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        files = dict(repository.files(revision))
        for key, value in changes:
            self._apply(files, key, value)
        oid = repository.commit(files, revision, header[1]["summary"])
        self.send_json(
            {"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{name}/commit/{oid}"}
        )

    def _apply(self, files: dict[str, bytes], key: str, value: dict) -> None:
        path = value["path"]
        if key == "file":
            files[path] = base64.b64decode(value["content"])
        elif key == "lfsFile":
            if value["oid"] not in self.hub.stored:
                raise Refusal(400, f"LFS pointer of {path} points to a file that does not exist")
            files[path] = self.hub.stored[value["oid"]]
        elif key == "deletedFile":
            if path not in files:
                raise Refusal(404, "A file with this name doesn't exist", "EntryNotFound")
            del files[path]
        else:
            raise Refusal(400, f"unknown key {key}")

    def do_file(self, name: str, revision: str, path: str, prefix: str = "") -> None:
        user = self.user
        repository = self.hub.find("dataset" if prefix else "model", name, user)
        _check_gate(repository, user)
        oid = repository.resolve(revision)
        content = repository.commits[oid].get(path)
        if content is None:
            raise Refusal(404, f"Entry not found: {path}", "EntryNotFound", commit=oid)
        if not is_large(path, len(content)):
            return self.send_file(content, ETag=f'"{git_oid(content)}"', X_Repo_Commit=oid)
        self.hub.stored.setdefault(sha256(content), content)
        linked = {"X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{sha256(content)}"'}
        location = f"{self.hub.storage_url}/files/{sha256(content)}"
        self.send(b"", 302, Location=location, X_Repo_Commit=oid, **linked)


def _check_gate(repository: Repository, user: User | None) -> None:
    if repository.gated and (user is None or user.name != repository.namespace):
        raise Refusal(403 if user else 401, f"Access to {repository.name} is restricted.", "GatedRepo")


def _entry(path: str, content: bytes) -> dict:
    entry = {"type": "file", "path": path, "size": len(content), "oid": git_oid(content)}
    if is_large(path, len(content)):
        entry["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": 134}
    return entry
