"""The command line: one file per command. Each command is a thin layer over library functions."""
