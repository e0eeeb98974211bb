"""Taking a camera's pictures out for good: what goes, what may not come back, and the log that says so."""
