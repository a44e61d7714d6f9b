"""Train LAFA around a frozen autoencoder: latents whose neighbouring channels are alike.

python training/train_lafa.py --config training/recipes/lafa.yaml --vae runs/star_phase2 --data.source music
"""

from engine.publishing import LAFA
from engine.script import run_script
from tasks.lafa_task import LafaArguments, LafaTask


def main(argv: list[str] | None = None) -> None:
    run_script(LafaArguments, LafaTask, argv, exports=LAFA)


if __name__ == "__main__":
    main()
