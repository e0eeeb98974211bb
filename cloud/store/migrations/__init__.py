"""How an index of an earlier version becomes one of this version, when it is opened."""
