"""The instruments: turns, operations, steps that are counted and not run, memory."""

import mmap

import pytest
import torch
from torch import nn


@pytest.fixture
def timing(load):
    return load("timing")


@pytest.fixture
def processes(load):
    return load("processes")


def test_functions_take_turns(timing):
    order = []
    timing.time_in_turn([lambda: order.append("a"), lambda: order.append("b")], repeats=3)
    assert order == ["a", "b"] * 3


@torch.no_grad()
def test_operations_are_counted_as_in_the_books(timing):
    linear, convolution = nn.Linear(5, 7), nn.Conv1d(3, 4, kernel_size=5, padding=2)
    query, key = torch.randn(2, 4, 10, 16), torch.randn(2, 2, 30, 16)
    calls = {
        2 * 3 * 5 * 7: lambda: linear(torch.randn(3, 5)),
        2 * 3 * 4 * 5 * 100: lambda: convolution(torch.randn(1, 3, 100)),
        # scores and sums over the values; two heads of the query to one of the keys
        2 * 2 * (2 * 4 * 10 * 30 * 16): lambda: nn.functional.scaled_dot_product_attention(
            query, key, key, enable_gqa=True
        ),
    }
    for expected, call in calls.items():
        assert timing.count_flops(call)[1] == expected


def test_steps_that_are_not_run_take_as_long_as_the_median_one(load, monkeypatch):
    steps_module = load("sampling_steps")
    now = [100.0]
    monkeypatch.setattr(steps_module.time, "perf_counter", lambda: now[0])

    def run(steps, clock):
        now[0] += 5.0  # the text
        for step in range(steps):
            now[0] += 2.0 if step != 1 else 50.0  # one of them by chance slow
            clock()
        now[0] += 1.0  # afterwards

    device = torch.device("cpu")
    assert steps_module.sampling_seconds(run, 4, 24, device) == pytest.approx(5 + 3 * 2 + 50 + 1 + 20 * 2)
    assert steps_module.sampling_seconds(run, 4, 4, device) == pytest.approx(5 + 3 * 2 + 50 + 1)
    (both, one) = steps_module.sampling_in_turn([[run, run], [run]], 3, 24, 1, device)
    assert both == pytest.approx(2 * one)
    assert steps_module.timed_steps_of(None, 24, device, on_cpu=6) == 6
    assert steps_module.timed_steps_of(None, 24, torch.device("cuda"), on_cpu=6) == 24
    assert steps_module.timed_steps_of(1, 24, device, on_cpu=6) == 2


def test_peak_memory_sees_what_is_freed_again(processes):
    def call():
        # straight from the system: the allocator may still hold what earlier tests gave back
        with mmap.mmap(-1, 200 << 20) as block:
            values = torch.frombuffer(block, dtype=torch.uint8)
            for _ in range(20):
                values.add_(1)
            del values
        return "done"

    result, peak = processes.peak_above(call, torch.device("cpu"))
    assert result == "done"
    assert 150 << 20 < peak < 250 << 20


@pytest.mark.slow
def test_a_process_of_its_own_answers_refuses_and_may_end(load, processes):
    train_step, memory = load("train_step"), load("memory")
    setting = train_step.Setting("tiny", 1, 4096, "float32", "cpu")
    peaks = processes.in_own_process(train_step.step_peaks, "autoencoder", "ours", True, setting)
    assert len(peaks) == 2
    assert all(0 < peak < 1 << 30 for peak in peaks)
    with pytest.raises(ValueError, match="less than two tiles"):
        processes.in_own_process(memory.compare_tiles, "tiny", 1.0, None, "cpu")


def test_the_machine_is_described_without_names_of_host_or_user(load):
    import getpass
    import platform

    described = str(load("machine").describe_machine())
    assert torch.__version__ in described
    for name in (platform.node(), getpass.getuser()):
        assert name == "root" or name not in described


def test_a_matrix_product_has_a_rate(load):
    rate = load("machine").matrix_product_rate(torch.device("cpu"), torch.float32, sizes=(64,))
    assert 1e6 < rate < 1e15
