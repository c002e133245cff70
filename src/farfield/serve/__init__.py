"""The web page: drop a clip, see its labels, its timeline, and what a position attends to; and plain HTTP."""
