"""Generated data sets, one for each synthetic task.

`figures` tests whether a network uses the order of frames, and `recall` whether it uses long-range dependencies. In
`crowd`, a video has several labels. In `untrimmed`, videos are long and have labelled segments.
"""
