"""Readers of annotation formats, one module per format. A reader converts annotations to manifest rows.

`registry.py` lists the formats by name.
"""
