"""The teacher's features of frames that a round may train on, kept within bounds; any of them may be lost."""
