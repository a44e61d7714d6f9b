"""Latents of a dataset, encoded on many processes and resumable."""
