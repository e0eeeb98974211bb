"""Students that have yet to show at a camera that they are not worse than the one in use, one by one or in waves."""
