"""What a process owes to the machine that it runs on: a lock on its folder, and a word to its service manager."""
