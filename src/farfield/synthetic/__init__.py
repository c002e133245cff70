"""Generated data sets, one for each task.

*figures* tests whether a network uses the order of frames, and *recall* whether it uses long-range dependencies. Videos
of *crowd* have several labels. Videos of *untrimmed* are long and have labelled segments.
"""
