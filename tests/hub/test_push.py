"""Pushing with the real client to a Hub on loopback: what arrives, what is refused, what a rerun repairs."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import torch
from hub_users import CARD, READ_TOKEN, STRANGER_TOKEN, TOKEN
from safetensors.torch import load_file, save_file

from star_hf.hub import HubError, plan_upload, push_folder
from star_hf.hub.kinds import Kind
from star_hf.hub.push import check_push

LARGE = r"PUT /upload/"
COMMIT = r"POST .*/commit/"


@pytest.fixture(autouse=True)
def _client(client):
    return client


@pytest.fixture
def sharded_folder(autoencoder_folder):
    """The autoencoder with its weights in five files, as large ones are saved, and a card."""
    (autoencoder_folder / "README.md").write_text(CARD)
    whole = autoencoder_folder / "diffusion_pytorch_model.safetensors"
    weights = load_file(whole)
    whole.unlink()
    keys = sorted(weights)
    names = [f"diffusion_pytorch_model-{index + 1:05d}-of-00005.safetensors" for index in range(5)]
    placed = {key: names[position % 5] for position, key in enumerate(keys)}
    for name in names:
        save_file({key: weights[key] for key in keys if placed[key] == name}, autoencoder_folder / name)
    index = {"metadata": {}, "weight_map": placed}
    (autoencoder_folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    return autoencoder_folder


def on_hub(hub, name="me/thing", kind="model", revision="main"):
    files = dict(hub.repository(name, kind).files(revision))
    files.pop(".gitattributes", None)
    return files


def planned(folder, name="me/thing", **options):
    return {
        file.path: file.content if isinstance(file.content, bytes) else file.content.read_bytes()
        for file in plan_upload(folder, name, **options).files
    }


@pytest.mark.parametrize("name", ["pipeline", "autoencoder", "generator", "adapter", "latents"])
def test_every_kind_arrives_as_it_was_planned_in_one_commit(request, hub, name):
    folder = request.getfixturevalue(f"{name}_folder")
    (folder / "optimizer.bin").write_bytes(b"state")
    result = push_folder(folder, "me/thing", license="cc-by-4.0")
    kind = result.plan.kind.repo_type
    assert on_hub(hub, kind=kind) == planned(folder, license="cc-by-4.0")
    repository = hub.repository("me/thing", kind)
    assert repository.messages == ["initial commit", f"Upload {result.plan.kind.class_name}"]
    assert result.commit == repository.refs["main"] and result.changed and not repository.private
    assert result.url == f"{hub.url}/{'datasets/' if name == 'latents' else ''}me/thing"


def test_what_is_unchanged_is_not_sent_again(hub, pipeline_folder):
    first = push_folder(pipeline_folder, "me/thing")
    hub.requests.clear()
    second = push_folder(pipeline_folder, "me/thing")
    assert second.commit == first.commit and not second.changed
    assert not hub.count(COMMIT) and not hub.count(LARGE)


def test_an_update_replaces_what_changed_and_only_that(hub, pipeline_folder):
    push_folder(pipeline_folder, "me/thing")
    weights = pipeline_folder / "vae" / "diffusion_pytorch_model.safetensors"
    save_file({key: value + 1 for key, value in load_file(weights).items()}, weights)
    hub.requests.clear()
    result = push_folder(pipeline_folder, "me/thing", message="better")
    assert result.changed and hub.count(LARGE) == 1
    assert on_hub(hub) == planned(pipeline_folder) and hub.repository("me/thing").messages[-1] == "better"


def test_shards_that_are_no_longer_part_of_it_go_with_the_same_commit(
    hub, sharded_folder, tiny_pipeline_folder
):
    push_folder(sharded_folder, "me/thing")
    hub.repository("me/thing").commit({**on_hub(hub), "images/mine.png": b"added on the page"})
    result = push_folder(tiny_pipeline_folder / "vae", "me/thing")
    assert len(result.removed) == 6
    assert set(on_hub(hub)) == {*planned(tiny_pipeline_folder / "vae"), "images/mine.png"}


def test_a_branch(hub, pipeline_folder):
    push_folder(pipeline_folder, "me/thing", revision="v1")
    assert not on_hub(hub) and on_hub(hub, revision="v1") == planned(pipeline_folder)
    push_folder(pipeline_folder, "me/thing")
    assert on_hub(hub) == on_hub(hub, revision="v1")


def test_a_private_repository_of_an_organization(hub, pipeline_folder):
    push_folder(pipeline_folder, "team/thing", private=True)
    assert hub.repository("team/thing").private
    push_folder(pipeline_folder, "team/thing", private=True)


def test_a_public_repository_is_not_taken_for_a_private_one(hub, pipeline_folder):
    hub.create("me/thing")
    with pytest.raises(HubError, match="me/thing exists and is public: make it private in its settings"):
        push_folder(pipeline_folder, "me/thing", private=True)
    assert not on_hub(hub)


def test_a_repository_with_a_card_and_a_licence_alone_is_filled(hub, pipeline_folder):
    hub.create("me/thing", files={"README.md": b"soon", "LICENSE": b"mine"})
    push_folder(pipeline_folder, "me/thing")
    assert on_hub(hub) == {**planned(pipeline_folder), "LICENSE": b"mine"}


OTHERS = {
    "an AutoencoderOobleck": {"config.json": b'{"_class_name": "AutoencoderOobleck"}'},
    "an AutoencoderStar": {"config.json": b'{"_class_name": "AutoencoderStar"}', "x.safetensors": b"x"},
    "a DDPMPipeline": {"model_index.json": b'{"_class_name": "DDPMPipeline"}'},
    "no model": {"thesis.pdf": b"x"},
    "config.json: is not valid JSON": {"config.json": b"{"},
}


@pytest.mark.parametrize("found", OTHERS)
def test_other_content_is_left_alone_unless_it_is_to_be_replaced(hub, pipeline_folder, found):
    hub.create("me/thing", files=OTHERS[found])
    with pytest.raises(HubError, match=f"me/thing on the Hub holds .*{found}.*, not a StarGenPipeline"):
        push_folder(pipeline_folder, "me/thing")
    assert on_hub(hub) == OTHERS[found] and not hub.count(LARGE)
    result = push_folder(pipeline_folder, "me/thing", overwrite=True)
    assert on_hub(hub) == planned(pipeline_folder)
    assert set(result.removed) == set(OTHERS[found]) - set(on_hub(hub))


def test_a_dataset_and_a_model_of_one_name_do_not_meet(hub, pipeline_folder, latents_folder):
    push_folder(pipeline_folder, "me/thing")
    push_folder(latents_folder, "me/thing")
    assert on_hub(hub) == planned(pipeline_folder)
    assert on_hub(hub, kind="dataset") == planned(latents_folder)


def test_no_token(hub, client, pipeline_folder):
    client(None)
    with pytest.raises(HubError, match="there is no token; log in with `hf auth login`, or set HF_TOKEN"):
        push_folder(pipeline_folder, "me/thing")
    assert not hub.requests


def test_a_token_that_the_hub_does_not_know(hub, client, pipeline_folder):
    client("hf_" + "no" * 17)
    with pytest.raises(HubError, match="the Hub does not accept the token.*`hf auth login`"):
        push_folder(pipeline_folder, "me/thing")


def test_a_token_that_may_only_read(hub, client, pipeline_folder):
    client(READ_TOKEN)
    with pytest.raises(HubError, match="the token of me may only read; log in"):
        push_folder(pipeline_folder, "me/thing")
    push_folder(pipeline_folder, "me/thing", token=TOKEN)


@pytest.mark.parametrize("exists", [False, True])
def test_no_right_to_write_there(hub, client, pipeline_folder, exists):
    if exists:
        hub.create("me/thing")
    client(STRANGER_TOKEN)
    with pytest.raises(HubError, match="token may not do this with me/thing.*account must be me or a member"):
        push_folder(pipeline_folder, "me/thing")
    assert not hub.count(LARGE)


def test_offline(hub, pipeline_folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        push_folder(pipeline_folder, "me/thing")
    assert not hub.requests


def test_metadata_that_the_hub_refuses_stop_before_the_repository_is_made(hub, pipeline_folder):
    (pipeline_folder / "README.md").write_text(CARD.replace("mit", "mine"))
    with pytest.raises(
        HubError, match='metadata of README.md: "license" must be one of the licenses, not mine'
    ):
        push_folder(pipeline_folder, "me/thing", license="do what you want")
    assert not hub.repositories


def test_a_bad_folder_never_meets_the_hub(hub, pipeline_folder):
    (pipeline_folder / "README.md").write_text("{{ name }}")
    with pytest.raises(ValueError, match="was not filled in"):
        push_folder(pipeline_folder, "me/thing")
    assert not hub.requests


@pytest.mark.parametrize(
    ("pattern", "options", "message"),
    [
        (r"GET /api/whoami", {}, "the connection to .* broke off"),
        (r"POST /api/repos/create", {}, "the connection to .* broke off"),
        (r"/preupload/", {}, "the connection to .* broke off"),
        (r"objects/batch", {}, "the connection to .* broke off"),
        (LARGE, {}, "the connection to .* broke off"),
        (LARGE, {"after_bytes": 20_000}, "the connection to .* broke off"),
        (r"/lfs/verify", {}, "the connection to .* broke off"),
        (COMMIT, {}, "the connection to .* broke off"),
        (r"/preupload/", {"status": 503}, "the Hub is out of order at the moment"),
        (COMMIT, {"status": 500}, "the Hub is out of order at the moment"),
        (COMMIT, {"status": 429}, "too many requests"),
        (COMMIT, {"status": 413}, "the Hub refuses .413"),
    ],
)
def test_whatever_breaks_off_is_repaired_by_the_same_call(hub, pipeline_folder, pattern, options, message):
    with hub.fault(pattern, **options) as fault, pytest.raises(HubError, match=message) as error:
        push_folder(pipeline_folder, "me/thing")
    assert fault.hits and "\n" not in str(error.value)
    assert str(error.value).startswith(f"{pipeline_folder} cannot be pushed to me/thing: ")
    if hub.repositories:
        assert not on_hub(hub), "half a push"
    push_folder(pipeline_folder, "me/thing")
    assert on_hub(hub) == planned(pipeline_folder)


def test_a_rerun_sends_only_what_has_not_arrived(hub, sharded_folder):
    sizes = [file.size for file in plan_upload(sharded_folder).files if file.path.endswith(".safetensors")]
    with hub.fault(LARGE, after_requests=3), pytest.raises(HubError, match="the same command goes on"):
        push_folder(sharded_folder, "me/thing")
    assert 0 < len(hub.stored) < len(sizes) and not on_hub(hub)
    kept = len(hub.stored)
    hub.requests.clear()
    push_folder(sharded_folder, "me/thing")
    assert hub.count(LARGE) == len(sizes) - kept
    assert on_hub(hub) == planned(sharded_folder)


def test_a_short_failure_of_the_network_is_not_even_noticed(hub, pipeline_folder):
    with hub.fault(LARGE, times=2), hub.fault(r"/preupload/", times=1, status=503):
        push_folder(pipeline_folder, "me/thing")
    assert on_hub(hub) == planned(pipeline_folder)


def test_an_interrupted_update_leaves_the_older_version(hub, pipeline_folder):
    push_folder(pipeline_folder, "me/thing")
    before = on_hub(hub)
    weights = pipeline_folder / "model" / "model.safetensors"
    save_file({key: value + 1 for key, value in load_file(weights).items()}, weights)
    with hub.fault(COMMIT), pytest.raises(HubError):
        push_folder(pipeline_folder, "me/thing")
    assert on_hub(hub) == before
    push_folder(pipeline_folder, "me/thing")
    assert on_hub(hub) == planned(pipeline_folder)


def test_ctrl_c_leaves_nothing_behind_that_a_rerun_does_not_repair(hub, pipeline_folder, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub._commit_api._send_commit", interrupt)
        with pytest.raises(KeyboardInterrupt):
            push_folder(pipeline_folder, "me/thing")
    assert not on_hub(hub)
    push_folder(pipeline_folder, "me/thing")
    assert on_hub(hub) == planned(pipeline_folder)


def test_a_change_by_someone_else_meanwhile_is_not_overwritten(hub, pipeline_folder, monkeypatch):
    from star_hf.hub import push

    hub.create("me/thing")
    look_at = push.look_at

    def look_and_be_late(*arguments):
        target = look_at(*arguments)
        hub.repository("me/thing").commit({"config.json": b'{"_class_name": "AutoencoderOobleck"}'})
        return target

    with monkeypatch.context() as patch:
        patch.setattr(push, "look_at", look_and_be_late)
        with pytest.raises(HubError, match="me/thing was changed by someone else during the upload"):
            push_folder(pipeline_folder, "me/thing")
    assert set(on_hub(hub)) == {"config.json"}
    with pytest.raises(HubError, match="holds an AutoencoderOobleck"):
        push_folder(pipeline_folder, "me/thing")


def test_what_arrived_is_compared_with_the_plan(hub, pipeline_folder, monkeypatch):
    from stand_in_server import HubHandler

    apply = HubHandler._apply

    def drop_one(self, files, key, value):
        if value["path"] != "vae/config.json":
            apply(self, files, key, value)

    with monkeypatch.context() as patch:
        patch.setattr(HubHandler, "_apply", drop_one)
        with pytest.raises(HubError, match="something else than was sent: vae/config.json is missing"):
            push_folder(pipeline_folder, "me/thing")
    push_folder(pipeline_folder, "me/thing")
    assert on_hub(hub) == planned(pipeline_folder)


def test_a_gated_repository_of_others(hub, pipeline_folder, client):
    files = {"model_index.json": b'{"_class_name": "StarGenPipeline"}'}
    hub.create("team/thing", files=files, gated=True)
    with pytest.raises(HubError, match="access to it is granted on request"):
        push_folder(pipeline_folder, "team/thing")


def test_asking_beforehand_sends_nothing(hub, client):
    check_push("me/thing", Kind("pipeline", "StarGenPipeline"), private=True)
    hub.create("me/thing", files=OTHERS["a DDPMPipeline"])
    with pytest.raises(HubError, match="me/thing on the Hub holds a DDPMPipeline"):
        check_push("me/thing", Kind("pipeline", "StarGenPipeline"))
    client(None)
    with pytest.raises(HubError, match="nothing could be pushed to me/thing: there is no token"):
        check_push("me/thing", Kind("pipeline", "StarGenPipeline"))
    assert not hub.count("^(POST|PUT)")


def test_links_of_a_cache_are_followed(hub, pipeline_folder, tmp_path):
    """A folder that `snapshot_download` made consists of links."""
    linked = tmp_path / "linked"
    for file in [path for path in pipeline_folder.rglob("*") if path.is_file()]:
        link = linked / file.relative_to(pipeline_folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        os.symlink(file, link)
    push_folder(linked, "me/thing")
    assert on_hub(hub) == planned(pipeline_folder)


def test_what_was_pushed_can_be_pushed_on(hub, pipeline_folder, tmp_path):
    from huggingface_hub import snapshot_download

    push_folder(pipeline_folder, "me/thing", license="mit")
    copy = shutil.copytree(snapshot_download("me/thing"), tmp_path / "copy")
    push_folder(copy, "me/again")
    assert on_hub(hub, "me/again") == on_hub(hub)
    assert torch.equal(
        *(
            load_file(path / "model" / "model.safetensors")["flow_head.weight"]
            for path in (copy, pipeline_folder)
        )
    )
