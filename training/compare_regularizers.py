"""Train the small recipe with each regularizer from one Phase I, and write docs/regularizers.md.

python training/compare_regularizers.py
python training/compare_regularizers.py --only star,sigma_vae
python training/compare_regularizers.py --sweep [2,4,8,16]
python training/compare_regularizers.py --check

Every recipe in `training/recipes/regularizers` but `phase1.yaml` and `common.yaml` is a method. What is
finished is not repeated, and a run that was stopped goes on from its last checkpoint: the same command
continues. The results are JSON in `docs/regularizers/`; page and figures are rendered from them alone, again
with `--render`.
"""

import signal
import sys
from pathlib import Path
from typing import Any

from comparison.page import check_page, write_page
from comparison.study import ComparisonArguments, Study
from engine.arguments import parse_arguments
from engine.run_log import fail, quiet_libraries
from star_hf.audio import AudioError


def work(arguments: ComparisonArguments, argv: list[str]) -> dict[str, str]:
    """Do what the arguments ask for; returns the runs that failed, by name, with their last words."""
    arguments.check_values()
    docs = Path(arguments.docs)
    failures: dict[str, str] = {}
    if arguments.check:
        check_page(docs)
        return failures
    if not arguments.render:
        study = Study(arguments, argv)
        failures = study.sweep() if arguments.sweep else study.compare()
    print(write_page(docs), flush=True)
    return failures


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    previous = signal.signal(signal.SIGTERM, _interrupt)
    quiet_libraries()
    try:
        failures = work(parse_arguments(ComparisonArguments, argv), argv)
    except (ValueError, AudioError, OSError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("stopped; the same command continues", code=130)
    finally:
        signal.signal(signal.SIGTERM, previous)
    if failures:
        fail(f"{len(failures)} failed: " + "; ".join(f"{name}: {why}" for name, why in failures.items()))


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
