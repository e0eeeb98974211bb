"""What changed from one student to the next, for people to see: the held-out frames on which both differ most."""
