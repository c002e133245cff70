"""Generated data sets.

*figures* tests the use of frame order, and *recall* the use of long-range dependencies. Videos of *crowd* have several
labels. Videos of *untrimmed* are long, with segments.
"""
