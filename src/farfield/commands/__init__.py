"""Commands of the command line. Each calls the library and prints the result."""
