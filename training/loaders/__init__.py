"""Where the batches of a recipe come from: audio crops, captioned audio, latents."""
