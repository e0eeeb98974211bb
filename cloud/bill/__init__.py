"""What passes, labels and rounds cost, beside what full training would have: whole bills, and no ratio without one."""
