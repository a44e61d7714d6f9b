"""The study behind docs/results.md: which autoencoders the papers' tables ask for, and their measurements."""
