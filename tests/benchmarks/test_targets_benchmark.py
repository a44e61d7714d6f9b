"""A target is reached by its bounds, on all lines, and by nothing that was not measured."""

import math

import pytest


@pytest.fixture
def targets(load):
    return load("targets")


@pytest.mark.parametrize(
    ("target", "ratio", "share", "expected"),
    [
        ("codec float32", 2.5, None, "met"),
        ("codec float32", 2.49, None, "not met"),
        ("codec bfloat16", 4.1, 0.41, "met"),
        ("codec bfloat16", 4.1, 0.39, "not met"),
        ("codec bfloat16", 3.9, 0.41, "not met"),
        ("codec bfloat16", 9.0, None, "not met"),
        ("memory", 1.3, None, "met"),
        ("memory", 1.31, None, "not met"),
        ("mamba share", 0.05, None, "met"),
        ("mamba share", 0.06, None, "not met"),
        ("cold start", 1.0, None, "met"),
        ("two processes", 1.79, None, "not met"),
        ("codec float32", math.nan, None, "not met"),
        (None, 0.1, None, ""),
    ],
)
def test_verdict(targets, load, target, ratio, share, expected):
    measurement = load("measurements").Measurement(
        "what", "peer", "float32", "cpu", ours=1.0, peer=1.0, ratio=ratio, share=share, target=target
    )
    assert targets.verdict(measurement) == expected


def test_a_target_is_met_only_where_all_its_lines_are(targets, faster):
    lines = [faster(ours=1.0, peer=peer, target="codec float32") for peer in (3.0, 2.6)]
    assert targets.overall_verdict("codec float32", lines, set(), refused=False) == "met"
    lines.append(faster(ours=1.0, peer=2.4, target="codec float32"))
    assert targets.overall_verdict("codec float32", lines, set(), refused=False) == "not met"


@pytest.mark.parametrize(
    ("name", "missing", "refused", "expected"),
    [
        ("pipeline", {"GPU"}, False, "needs a GPU"),
        ("pipeline", set(), False, "not measured"),
        ("codec bfloat16", {"BFLOAT16"}, False, "needs AVX512-bf16 or AMX"),
        ("mamba kernels", {"GPU", "MAMBA"}, True, "needs a GPU with mamba-ssm"),
        ("memory", {"GPU"}, True, "refused"),
        ("memory", {"GPU"}, False, "not measured"),
    ],
)
def test_what_was_not_measured_is_neither_met_nor_not(targets, faster, name, missing, refused, expected):
    missing = {getattr(targets, part) for part in missing}
    other = faster(ours=1.0, peer=100.0, target="cold start")
    assert targets.overall_verdict(name, [other], missing, refused) == expected


def test_every_target_has_a_row_and_a_bound(targets, load):
    for target in targets.TARGETS.values():
        assert target.row in load("rows").ROWS
        assert (target.at_least is None) != (target.at_most is None)
