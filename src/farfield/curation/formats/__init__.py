"""Annotation formats of data sets, one file a format: each reads its annotations into manifest rows."""
