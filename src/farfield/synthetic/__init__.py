"""Generated data sets: *figures* tests the use of frame order, and *recall* the use of long-range dependencies."""
