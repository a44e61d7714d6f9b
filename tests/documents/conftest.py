"""A reader of the pages: a folder to work in, a Hub to talk to, and the scripts' own modules."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
for folder in (TESTS / "hub", TESTS.parent / "training"):
    sys.path.insert(0, str(folder))

from lent_models import REPOSITORIES, Lender  # noqa: E402 (these need the folders above)
from reader_folder import ReaderFolder, write_recordings  # noqa: E402
from stand_in import StandIn, User  # noqa: E402
from stand_in_server import serve  # noqa: E402

_specification = importlib.util.spec_from_file_location("hub_fixtures", TESTS / "hub" / "conftest.py")
_hub_fixtures = importlib.util.module_from_spec(_specification)
_specification.loader.exec_module(_hub_fixtures)
client = _hub_fixtures.client

TOKEN = "hf_" + "us" * 17


class LendingHub(StandIn):
    """A Hub that has the models of `lent_models.REPOSITORIES`, but for those in `absent`."""

    def __init__(self, lender: Lender) -> None:
        super().__init__()
        self.absent: set[str] = set()
        # made now: whoever asks for one does not wait for long
        self.lent = {name: lender(name) for name in REPOSITORIES}

    def find(self, kind, name, user):
        lent = name in self.lent and name not in self.absent
        if kind == "model" and lent and (kind, name) not in self.repositories:
            folder = self.lent[name]
            paths = [path for path in folder.rglob("*") if path.is_file()]
            files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
            self.create(name, files=files)
        return super().find(kind, name, user)


@pytest.fixture(scope="session")
def lender(tmp_path_factory):
    place = tmp_path_factory.mktemp("lent")
    write_recordings(place / "recordings")
    return Lender(place, place / "recordings")


@pytest.fixture
def hub(lender):
    """A Hub with the lent models and a user named `user`."""
    stand_in = LendingHub(lender)
    stand_in.add_user(TOKEN, User("user"))
    with serve(stand_in):
        yield stand_in


@pytest.fixture
def reader(tmp_path, lender, client, monkeypatch):
    """A reader's folder, in which this process works from here on, logged in at the Hub as `user`."""
    client(TOKEN)
    reader = ReaderFolder(tmp_path, lender)
    monkeypatch.chdir(reader.folder)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    return reader


@pytest.fixture(autouse=True)
def _few_sampling_steps(monkeypatch):
    """Pipelines sample in two steps, also where a page's Python leaves the number to them."""
    from star_hf import StarGenPipeline

    sample = StarGenPipeline.__call__

    def sample_quickly(self, *arguments, **options):
        return sample(self, *arguments, **{**options, "num_inference_steps": 2})

    monkeypatch.setattr(StarGenPipeline, "__call__", sample_quickly)


@pytest.fixture(autouse=True)
def _as_it_was():
    """Commands set what belongs to a process: the number of threads, how much libraries tell, variables."""
    import diffusers.utils.logging
    import torch
    import transformers.utils.logging

    loggings = [diffusers.utils.logging, transformers.utils.logging]
    levels = [logging.get_verbosity() for logging in loggings]
    threads, environment = torch.get_num_threads(), dict(os.environ)
    yield
    for logging, level in zip(loggings, levels, strict=True):
        logging.set_verbosity(level)
        logging.enable_progress_bar()
    torch.set_num_threads(threads)
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    os.environ.update(environment)
