"""The command line `kindred`."""
