"""`culling study day`: a day of a camera, composed from a clip of two minutes, of which every box is known.

Nothing imports it.
"""
