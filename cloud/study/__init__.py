"""`culling study`: the paper's tables and figures, and the selector's, on any labelled clip.

Nothing imports it.
"""
