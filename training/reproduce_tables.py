"""Train and measure what the papers' tables compare, at a size for two CPU cores, and write docs/results.md.

python training/reproduce_tables.py --jobs 2
python training/reproduce_tables.py --only autoencoders --jobs 2
python training/reproduce_tables.py --only measure,timing
python training/reproduce_tables.py --only generators --jobs 2 --probe.budgets [200,800] --probe.seeds [0,1]
python training/reproduce_tables.py --data my_recordings --output_dir runs/mine --docs docs/mine
python training/reproduce_tables.py --check

What is finished is not repeated, and a run that was stopped goes on from its last checkpoint: the same
command continues. `--only measure` takes what is finished, while other runs still train. The results are JSON
in `docs/results/`; the page is rendered from them alone, again with `--render`.
"""

import signal
import sys
import time
from pathlib import Path
from typing import Any

from engine.arguments import parse_arguments
from engine.run_log import clock, fail, quiet_libraries
from star_hf.audio import AudioError
from tables.documents import AUTOENCODERS_NAME
from tables.study import TablesArguments, TablesStudy, minutes_spent


def work(arguments: TablesArguments, argv: list[str]) -> dict[str, str]:
    """Do what the arguments ask for; returns the runs that failed, by name, with their last words."""
    arguments.check_values()
    docs = Path(arguments.docs)
    if arguments.check:
        from tables.page import check_page

        check_page(docs)
        return {}
    if arguments.render:
        _render(docs)
        return {}
    study = TablesStudy(arguments, argv)
    if arguments.probe_one is not None:
        study.probe_one(arguments.probe_one)
        return {}
    stages, failures = arguments.stages(), {}
    if "autoencoders" in stages:
        failures |= study.train()
    if "measure" in stages:
        study.measure()
    if "timing" in stages:
        study.time()
    if "generators" in stages:
        failures |= study.generate()
    if "measure" in stages or "generators" in stages:
        study.collect_generators()
    if (docs / AUTOENCODERS_NAME).is_file() and stages != ["autoencoders"]:
        _render(docs)
        print(f"all runs and measurements together: {clock(60 * minutes_spent(docs))}", flush=True)
    return failures


def _render(docs: Path) -> None:
    from tables.page import write_page  # brings matplotlib along, which training does without

    print(write_page(docs), flush=True)


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    previous = signal.signal(signal.SIGTERM, _interrupt)
    quiet_libraries()
    started = time.monotonic()
    try:
        failures = work(parse_arguments(TablesArguments, argv), argv)
    except (ValueError, AudioError, OSError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("stopped; the same command continues", code=130)
    finally:
        signal.signal(signal.SIGTERM, previous)
    print(f"this took {clock(time.monotonic() - started)}", flush=True)
    if failures:
        fail(f"{len(failures)} failed: " + "; ".join(f"{name}: {why}" for name, why in failures.items()))


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
