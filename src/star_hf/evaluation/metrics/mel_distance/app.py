"""The metric's Space."""

from star_hf.evaluation.metric_app import build_app

build_app("mel_distance").launch()
