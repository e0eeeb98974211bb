"""Every setting as a person reads it: its key, type, default and meaning; and the commands that list and print them."""
