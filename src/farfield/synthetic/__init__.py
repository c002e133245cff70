"""Generated data sets: classifying *figures* needs the order of frames, and *recall* long-range dependencies."""
