"""What every training run shares: command line, loop, optimizers, checkpoints, back ends, log and reports."""
