"""Video files to frames: decoders, packet index, frame conversion, writer."""
