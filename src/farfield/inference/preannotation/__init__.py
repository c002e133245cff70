"""Write predictions in the formats of labelling tools, for people to correct. There is one module per tool.

`tools.py` lists the tools by name. `farfield.curation.formats` reads the files that the tools save.
"""
