"""What is trained: autoencoders, STAR-Gen, DiT."""
