"""How close the cloud runs to its limit: `culling bench ingest`, `student`, `teacher`, `train`, `memory cloud`.

Nothing imports it.
"""
