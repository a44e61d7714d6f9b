"""`make bench`: rows one after the other, what failed named, and a page in the end. No models: stubs."""

import json
import subprocess
import sys

import pytest

STUB = """
import json, sys
name, options = sys.argv[0], sys.argv[1:]
if "--fail" in options:
    sys.exit("error: ours differs from the peer by 1.0e-01 (relative), at most 1e-04 is allowed.")
print("measuring", options)
line = dict(what="a task", peer_name="peer", precision="float32", device="cpu", ours=1.0, peer=3.0, ratio=3.0)
line["target"] = "codec float32"
document = dict(machine={machine}, setting=dict(options=options), rates={{}}, measurements=[line],
                remarks=[], options=[], results=[])
json.dump(document, open(options[options.index("--json") + 1], "w"))
"""


@pytest.fixture
def bench(load, machine, monkeypatch, tmp_path):
    """The command, with stubs for the rows decode and memory and no others."""
    module, rows = load("bench"), load("rows")
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    for name in ("decode", "memory"):
        (scripts / f"{name}.py").write_text(STUB.format(machine=machine))
    stubs = {name: rows.Row(name, name, 1.0, ("--full",), ("--tiny",)) for name in ("decode", "memory")}
    for place in (module, load("page"), load("table")):
        monkeypatch.setattr(place, "ROWS", stubs)
    monkeypatch.setattr(module, "FOLDER", scripts)
    return module


@pytest.fixture
def output(tmp_path):
    return tmp_path / "docs" / "page.md"


def read(output, row):
    return json.loads((output.with_suffix("") / f"{row}.json").read_text())


def test_all_rows_one_table_and_the_page(bench, output, tmp_path, capfd):
    bench.main(["--output", str(output), "--threads", "1", "--json", str(tmp_path / "all.json")])
    printed = capfd.readouterr().out
    assert "[1/2] decode: python benchmarks/decode.py --full --threads 1" in printed
    assert "a task" in printed and "3.00x" in printed and "met" in printed
    assert "| a task | peer |" in output.read_text()
    document = read(output, "decode")
    assert document["command"] == "python benchmarks/decode.py --full --threads 1"
    assert document["setting"]["options"][:3] == ["--full", "--threads", "1"]
    assert document["seconds"] > 0
    assert 0 <= document["others_share"] <= 1
    everything = json.loads((tmp_path / "all.json").read_text())
    assert everything["verdicts"]["codec float32"] == "met"
    assert set(everything["rows"]) == {"decode", "memory"}


def test_a_row_whose_outputs_differ_is_named_and_the_others_go_on(bench, output, monkeypatch, capfd):
    failing = bench.Row("decode", "decode", 1.0, ("--fail",))
    monkeypatch.setitem(bench.ROWS, "decode", failing)
    with pytest.raises(SystemExit, match="not measured: decode"):
        bench.main(["--output", str(output)])
    assert read(output, "decode")["error"].startswith("ours differs from the peer by 1.0e-01")
    assert read(output, "decode")["measurements"] == []
    assert read(output, "memory")["measurements"]
    assert "**decode** did not measure: ours differs from the peer" in output.read_text()


def test_resume_measures_only_what_is_missing_failed_or_stale(bench, output, monkeypatch, capfd):
    bench.main(["--output", str(output), "--only", "decode"])
    capfd.readouterr()
    bench.main(["--output", str(output), "--resume"])
    printed = capfd.readouterr().out
    assert "[1/2] decode: measured already" in printed
    assert "[2/2] memory: python" in printed
    monkeypatch.setattr(bench, "source_digest", lambda: "other code")
    bench.main(["--output", str(output), "--resume", "--only", "decode"])
    assert "measured already" not in capfd.readouterr().out
    path = output.with_suffix("") / "memory.json"
    path.write_text(json.dumps({**read(output, "memory"), "error": "it failed", "measurements": []}))
    bench.main(["--output", str(output), "--resume", "--only", "memory"])
    assert "error" not in read(output, "memory")


def test_render_measures_nothing(bench, output, monkeypatch, capfd):
    bench.main(["--output", str(output)])
    output.unlink()
    monkeypatch.setattr(bench, "measure_row", None)
    bench.main(["--output", str(output), "--render"])
    assert "a task" in output.read_text()


def test_a_tried_change_leaves_the_recorded_numbers(bench, output, monkeypatch, capfd):
    bench.main(["--output", str(output)])
    recorded = read(output, "decode")
    stub = bench.FOLDER / "decode.py"
    stub.write_text(stub.read_text().replace("ours=1.0", "ours=2.0"))
    bench.main(["--output", str(output), "--only", "decode", "--tried", "another layout"])
    assert read(output, "decode") == recorded
    assert "a task: 0.50x with the change" in capfd.readouterr().out
    assert "- another layout: a task (cpu), 1 s without it, 2 s with it, 0.50x." in output.read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only", "nothing"], "no row 'nothing'; there are decode, memory"),
        (["--render"], "holds no measurements yet"),
    ],
)
def test_wrong_rows_are_refused(bench, output, options, message):
    with pytest.raises(SystemExit, match=message):
        bench.main(["--output", str(output), *options])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tiny"], "--tiny needs an --output"),
        (["--threads", "0"], "--threads must be greater than 0"),
        (["--output", "page.html"], "--output must end with .md"),
    ],
)
def test_wrong_options_are_refused(bench, options, message, capsys):
    with pytest.raises(SystemExit):
        bench.main(options)
    assert message in capsys.readouterr().err


def test_every_row_names_a_script_that_knows_its_options(load, monkeypatch):
    rows, bench = load("rows").ROWS, load("bench")
    for row in rows.values():
        assert (bench.FOLDER / row.script).is_file()
    assert sum(row.minutes for row in rows.values()) < 25
    assert bench.command_of(rows["decode"], tiny=False, threads=2)[-2:] == ["--threads", "2"]
    assert "--threads" not in bench.command_of(rows["data_loading"], tiny=False, threads=2)


def test_a_machine_without_a_gpu_leaves_out_what_needs_one(load, monkeypatch):
    bench = load("bench")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "pipeline" not in [row.name for row in bench.choose_rows(None, tiny=False)]
    assert "pipeline" in [row.name for row in bench.choose_rows(None, tiny=True)]
    assert [row.name for row in bench.choose_rows("memory,decode", tiny=False)] == ["decode", "memory"]


@pytest.mark.slow
def test_the_command_measures_tiny_models(load, tmp_path):
    script = load("bench").FOLDER / "bench.py"
    output = tmp_path / "page.md"
    command = [sys.executable, str(script), "--tiny", "--only", "sampling", "--output", str(output)]
    done = subprocess.run([*command, "--threads", "1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "4 steps with guidance, 20 frames, 64 text tokens" in output.read_text()
