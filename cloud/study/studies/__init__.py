"""One study a file: each has a function of the file's name, which takes what was asked and returns its results."""
