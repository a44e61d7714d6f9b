"""Captions: every value of every template once, absent ones left out, wrong ones named."""

import collections

import numpy as np
import pytest
from datasets import ClassLabel, Features, Value

from star_hf.data import CaptionTemplates


def test_templates_multiply_over_lists_and_leave_out_what_is_absent():
    templates = CaptionTemplates(["{text}", "{tags} in {json.place}", "{bpm:.0f} beats", "music"])
    row = {"text": ["one", "two"], "tags": ["a", "b"], "json": {"place": "a room"}, "bpm": 119.9}
    assert templates.columns == ["text", "tags", "json", "bpm"]
    assert templates.candidates(row) == ["one", "two", "a in a room", "b in a room", "120 beats", "music"]
    assert templates.candidates({"text": "", "tags": None, "json": None, "bpm": None}) == ["music"]
    assert templates.candidates({"text": [None, "x"], "tags": [], "json": {}, "bpm": 0}) == [
        "x",
        "0 beats",
        "music",
    ]


def test_braces_can_be_written_and_text_is_not_read_as_a_template():
    assert CaptionTemplates(["{{{text}}}"]).candidates({"text": "{label}"}) == ["{{label}}"]


def test_class_labels_are_written_by_name():
    features = Features({"label": ClassLabel(names=["dog", "cat"]), "fold": Value("int64")})
    templates = CaptionTemplates(["the sound of a {label} ({fold})"], features)
    assert templates.candidates({"label": 1, "fold": 1}) == ["the sound of a cat (1)"]
    assert templates.candidates({"label": -1, "fold": 1}) == []
    assert templates.candidates({"label": None, "fold": 1}) == []


def test_each_caption_is_drawn_as_often_and_the_same_for_a_seed():
    templates = CaptionTemplates(["{text}", "{label}"])
    row = {"text": ["a", "b", "c"], "label": "d"}
    counts = collections.Counter(templates.draw(row, np.random.default_rng(seed)) for seed in range(800))
    assert set(counts) == set("abcd") and all(150 < count < 250 for count in counts.values())
    again = collections.Counter(templates.draw(row, np.random.default_rng(seed)) for seed in range(800))
    assert counts == again
    assert templates.draw({"text": None, "label": None}, np.random.default_rng(0)) == ""


def test_what_is_wrong_is_named():
    with pytest.raises(
        ValueError, match=r"'a \{label\}' names 'label', which is not a column of 'mine'; .*text"
    ):
        CaptionTemplates(["{text}", "a {label}"]).check(["audio", "text"], "mine")
    CaptionTemplates(["{json.a}"]).check(["json"], "mine")
    with pytest.raises(ValueError, match="needs the column 'label'; there are text"):
        CaptionTemplates(["{label}"]).candidates({"text": "a"})
    for templates, message in (
        (["{"], "'{' cannot be read"),
        (["{} x"], "empty braces"),
        ([], "at least one text"),
        ("{text}", "must be a list"),
    ):
        with pytest.raises(ValueError, match=message):
            CaptionTemplates(templates)
