"""Writers of predictions in the formats of labelling tools, one module per tool, so that people correct them there.

`tools.py` lists them by name. `farfield.curation.formats` reads what the tools save.
"""
