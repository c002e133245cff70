"""Generated videos: two tasks that need nothing but this package, and ask for time and for memory."""
