"""How a long-running process of either side behaves: one at a time, alive, and not ended by what one item throws."""
