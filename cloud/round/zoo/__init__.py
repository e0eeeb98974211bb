"""The zoo: earlier students of a camera and its siblings, which a round tries before it trains (RECL, NSDI 2023)."""
