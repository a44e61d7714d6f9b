"""Tokens of the stand-in's users, and a card that the Hub takes."""

TOKEN = "hf_" + "me" * 17
READ_TOKEN = "hf_" + "rd" * 17
STRANGER_TOKEN = "hf_" + "ot" * 17
CARD = """---
license: mit
library_name: star_hf
pipeline_tag: text-to-audio
tags: [audio]
---

# A model
"""
