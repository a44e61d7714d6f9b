"""Everything side by side with its peers: one table, and docs/benchmarks.md with it.

python benchmarks/bench.py                        what `make bench` does
python benchmarks/bench.py --only decode,memory   some rows anew, the others as they are
python benchmarks/bench.py --resume               go on after an interruption
python benchmarks/bench.py --render               the page from its JSON, nothing is measured
python benchmarks/bench.py --list                 rows, and how long they take

Rows run one after the other, each in a process of its own, and leave their numbers in
docs/benchmarks/ROW.json. Outputs that differ from the peer's end a row before anything is timed; the others
go on, the page says so, and the command fails. `--tried "what was changed"` measures the rows of `--only`
with a change in place and writes down what it did to their recorded numbers, which stay.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import torch
from common import refuse_what_is_not_positive
from machine import describe_machine, usable_cores
from measurements import Report, read_json, read_measurements, write_json
from page import Page, write_page
from rows import ROWS, Row
from tried import remember

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent
# What the numbers follow from; training is what encode_dataset.py runs.
SOURCES = ("src/star_hf", "benchmarks", "training/encode_latents.py", "training/encoding")


def source_digest() -> str:
    """Of all code that is measured or measures."""
    digest = hashlib.sha256()
    for source in SOURCES:
        path = ROOT / source
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            digest.update(f"{file.relative_to(ROOT)}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def command_of(row: Row, tiny: bool, threads: int | None) -> list[str]:
    """The script and its options, as they stand on the page."""
    options = list(row.tiny_options if tiny else row.options)
    if threads is not None and row.takes_threads:
        options += ["--threads", str(threads)]
    return [f"benchmarks/{row.script}", *options]


def measure_row(row: Row, arguments: argparse.Namespace, origin: dict[str, Any]) -> dict[str, Any]:
    """The row's document: what its script wrote, or why it did not."""
    command = command_of(row, arguments.tiny, arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "row.json"
        full = [sys.executable, str(FOLDER / row.script), *command[1:], "--json", str(path)]
        busy, own, started = busy_seconds(), own_seconds(), time.perf_counter()
        done = subprocess.run(full, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        seconds = time.perf_counter() - started
        others = (busy_seconds() - busy) - (own_seconds() - own)
        if done.returncode == 0:
            document = read_json(path)
        else:
            sys.stderr.write(done.stderr)
            lines = done.stderr.strip().splitlines()
            error = lines[-1].removeprefix("error: ") if lines else f"it ended with {done.returncode}"
            document = {"error": error, "machine": describe_machine(), **asdict(Report())}
    return {
        "row": row.name,
        "command": shlex.join(["python", *command]),
        "seconds": seconds,
        "others_share": max(0.0, others / seconds / usable_cores()),
        "origin": origin,
        **document,
    }


def busy_seconds() -> float:
    """Of processor time that all processes of the machine have used."""
    times = psutil.cpu_times()
    return times.user + times.system + getattr(times, "nice", 0.0) + getattr(times, "steal", 0.0)


def own_seconds() -> float:
    """Of processor time of this process and the children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def is_done(path: Path, command: str, origin: dict[str, Any]) -> bool:
    """Whether the row has been measured with the same options, code and machine."""
    if not path.is_file():
        return False
    document = read_json(path)
    return (document.get("command"), document.get("origin")) == (command, origin) and not document.get(
        "error"
    )


def run_rows(rows: list[Row], folder: Path, arguments: argparse.Namespace) -> list[str]:
    """Measure the rows into the folder; names of those that refused or failed."""
    origin = {
        "tiny": arguments.tiny,
        "sources": source_digest(),
        "machine": describe_machine(),
        "threads": torch.get_num_threads(),
    }
    failed = []
    for index, row in enumerate(rows, start=1):
        path = folder / f"{row.name}.json"
        command = shlex.join(["python", *command_of(row, arguments.tiny, arguments.threads)])
        title = f"[{index}/{len(rows)}] {row.name}"
        if arguments.resume and is_done(path, command, origin):
            print(f"{title}: measured already", flush=True)
            continue
        print(f"{title}: {command}", flush=True)
        document = measure_row(row, arguments, origin)
        write_json(path, document)
        print(f"{title}: {document['seconds']:.0f} s", flush=True)
        if document.get("error"):
            failed.append(row.name)
    return failed


def choose_rows(names: str | None, tiny: bool) -> list[Row]:
    """The rows of `--only`, or all that this machine can measure. Raises `ValueError` for an unknown one."""
    gpu = tiny or torch.cuda.is_available()
    if names is None:
        return [row for row in ROWS.values() if gpu or not row.needs_gpu]
    unknown = sorted(set(names.split(",")) - set(ROWS))
    if unknown:
        raise ValueError(f"--only: no row {', '.join(map(repr, unknown))}; there are {', '.join(ROWS)}")
    return [row for row in ROWS.values() if row.name in names.split(",")]


def list_rows() -> None:
    for row in ROWS.values():
        duration = "needs a GPU" if row.needs_gpu else f"about {row.minutes:g} min"
        print(f"{row.name:15} {duration:14} {row.title}")
    total = sum(row.minutes for row in ROWS.values())
    print(f"{'all':15} about {total:g} min on two AVX-512 cores without a GPU")


def try_change(rows: list[Row], folder: Path, arguments: argparse.Namespace) -> list[str]:
    """Measure with a change in place and hold it against the recorded numbers; the rows that failed."""
    with tempfile.TemporaryDirectory() as name:
        failed = run_rows(rows, Path(name), arguments)
        for row in rows:
            paths = [place / f"{row.name}.json" for place in (folder, Path(name))]
            if row.name in failed or not paths[0].is_file():
                continue
            recorded, changed = (read_measurements(path, read_json(path)) for path in paths)
            for entry in remember(folder, arguments.tried, recorded, changed):
                print(f"{entry['what']}: {entry['ratio']:.2f}x with the change")
    return failed


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", metavar="ROW,ROW", help="these rows [all]")
    parser.add_argument("--threads", type=int, help="PyTorch's threads [its own choice]")
    parser.add_argument("--tiny", action="store_true", help="small models, for a look at the command itself")
    parser.add_argument("--resume", action="store_true", help="leave rows that the same code has measured")
    parser.add_argument("--render", action="store_true", help="only render the page from its JSON")
    parser.add_argument("--list", action="store_true", help="only list the rows")
    parser.add_argument("--tried", metavar="CHANGE", help="measure a change that is not kept, and note it")
    parser.add_argument(
        "--output", type=Path, help="the page; its JSON is in the folder of that name [docs/benchmarks.md]"
    )
    parser.add_argument("--json", type=Path, help="also write all rows and verdicts to this file")
    arguments = parser.parse_args(argv)
    refuse_what_is_not_positive(parser, arguments, ("threads",))
    if arguments.output is None:
        if arguments.tiny:
            parser.error("--tiny needs an --output: docs/benchmarks.md is of the full size")
        arguments.output = ROOT / "docs" / "benchmarks.md"
    if arguments.output.suffix != ".md":
        parser.error(f"--output must end with .md, got {str(arguments.output)!r}")
    return arguments


def main(argv: list[str] | None = None) -> None:
    arguments = parse(argv)
    if arguments.list:
        list_rows()
        return
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    folder = arguments.output.with_suffix("")
    try:
        rows = choose_rows(arguments.only, arguments.tiny)
        failed = []
        if arguments.tried:
            failed = try_change(rows, folder, arguments)
        elif not arguments.render:
            failed = run_rows(rows, folder, arguments)
        page = Page(folder)
        written = write_page(folder)
    except ValueError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; --resume goes on with what is missing")
    print(page.console())
    print(written)
    if arguments.json is not None:
        write_json(arguments.json, {"verdicts": page.verdicts(), "rows": page.documents})
    if failed:
        sys.exit(f"error: not measured: {', '.join(failed)}; the page says why")


if __name__ == "__main__":
    main()
