"""Generated data sets: *figures* needs the order of frames, *recall* long-range dependencies."""
