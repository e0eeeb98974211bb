"""The cascade: frames whose student is unsure get the teacher's answer, where it comes in time."""
