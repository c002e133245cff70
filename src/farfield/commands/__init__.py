"""The commands of the command line, one file each. Like cli.py, they may import every room."""
