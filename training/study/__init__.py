"""What the studies share: runs of training scripts, and the same measurements of what they trained."""
