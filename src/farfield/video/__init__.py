"""Read frames from video files, and write them: decoders, packet index, frame conversion, writer."""
