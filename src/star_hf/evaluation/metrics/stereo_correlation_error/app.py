"""The metric's Space."""

from star_hf.evaluation.metric_app import build_app

build_app("stereo_correlation_error").launch()
