"""The databases that an index may be in, and where they differ: how they are opened, locked and emptied."""
