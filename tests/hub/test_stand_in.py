"""The stand-in behaves as the Hub where the other tests rely on it."""

from __future__ import annotations

import pytest
from hub_users import STRANGER_TOKEN, TOKEN
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

FILES = {f"part/{index}.json": b"{}" for index in range(9)} | {"model.safetensors": b"weights"}


@pytest.fixture
def api(hub, client):
    return HfApi(endpoint=hub.url)


def test_listings(hub, api):
    hub.create("me/thing", files=FILES)
    tree = {entry.path: entry for entry in api.list_repo_tree("me/thing", recursive=True)}
    assert set(tree) == {*FILES, ".gitattributes"} and hub.count("GET .*/tree/") == 3, "in pages"
    assert tree["model.safetensors"].lfs.size == 7 and tree["part/1.json"].lfs is None
    found = api.get_paths_info("me/thing", ["part/1.json", "missing"])
    assert [entry.path for entry in found] == ["part/1.json"]
    api.create_branch("me/thing", branch="v/1")
    refs = {ref.name: ref.target_commit for ref in api.list_repo_refs("me/thing").branches}
    assert refs == {
        "main": api.repo_info("me/thing").sha,
        "v/1": api.repo_info("me/thing", revision="v/1").sha,
    }


def test_who_sees_and_who_writes(hub, api, tmp_path):
    hub.create("me/secret", files=FILES, private=True)
    hub.create("me/gated", files=FILES, gated=True)
    for token in (STRANGER_TOKEN, False):
        with pytest.raises(RepositoryNotFoundError):
            api.repo_info("me/secret", token=token)
        with pytest.raises(GatedRepoError):
            api.hf_hub_download("me/gated", "part/1.json", token=token, cache_dir=tmp_path)
        with pytest.raises(HfHubHTTPError, match="40[13]"):
            api.upload_file(path_or_fileobj=b"", path_in_repo="x", repo_id="me/gated", token=token)
        with pytest.raises(HfHubHTTPError, match="40[13]"):
            api.create_repo("me/new", token=token)
    assert api.repo_info("me/secret", token=TOKEN).private
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        api.whoami(token="hf_unknown")


def test_what_is_not_there(hub, api, tmp_path):
    hub.create("me/thing", files=FILES)
    with pytest.raises(RevisionNotFoundError):
        api.repo_info("me/thing", revision="v9")
    with pytest.raises(RemoteEntryNotFoundError):
        api.hf_hub_download("me/thing", "missing.json", cache_dir=tmp_path)
    with pytest.raises(RepositoryNotFoundError):
        api.repo_info("me/thing", repo_type="dataset")


def test_large_files_are_kept_by_their_content(hub, api):
    from huggingface_hub.utils import get_session

    hub.create("me/thing")
    api.upload_file(path_or_fileobj=b"weights", path_in_repo="a.safetensors", repo_id="me/thing")
    api.upload_file(path_or_fileobj=b"weights", path_in_repo="b.safetensors", repo_id="me/thing")
    assert hub.count("PUT /upload/") == 1 and list(hub.stored.values()) == [b"weights"]
    assert get_session().put(f"{hub.storage_url}/upload/{'0' * 64}", content=b"other").status_code == 400
