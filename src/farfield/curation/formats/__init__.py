"""Annotation formats of data sets, one file a format: each reads its annotations into manifest rows.

`curation/index.py` registers them in FORMATS.
"""
