"""Train an AutoencoderStar: Phase I with a small KL, Phase II with STAR from a Phase I run.

python training/train_autoencoder.py --config training/recipes/esc10_autoencoder.yaml
python training/train_autoencoder.py --config training/recipes/esc10_autoencoder_star.yaml
"""

from engine.publishing import AUTOENCODER
from engine.script import run_script
from tasks.autoencoder_arguments import AutoencoderArguments
from tasks.autoencoder_task import AutoencoderTask


def main(argv: list[str] | None = None) -> None:
    run_script(AutoencoderArguments, AutoencoderTask, argv, exports=AUTOENCODER)


if __name__ == "__main__":
    main()
