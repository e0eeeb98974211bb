"""How close the agent runs to its limit: `culling bench edge`, `overhead`, `swap` and `memory edge`.

Nothing imports it.
"""
