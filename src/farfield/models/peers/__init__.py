"""Checkpoints of other projects: read safely, recognised, converted to the last digit, or refused with the reason."""

from farfield.models.peers.convert import ConversionReport, convert_file
from farfield.models.peers.description import Answers

__all__ = ["Answers", "ConversionReport", "convert_file"]
