"""`culling demo`: the whole loop on one machine, played from a video and measured on a part held back.

Nothing imports it.
"""
