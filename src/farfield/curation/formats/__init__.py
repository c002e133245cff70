"""Readers of annotation formats, one module per format. A reader converts annotations to manifest rows.

`curation/index.py` registers the readers in FORMATS.
"""
