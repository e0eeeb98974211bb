"""From an offered model to the one in use: download, checks, warm-up, swap, probation and rollback."""
