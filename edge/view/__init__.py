"""The live picture of a camera with what is found in it, and a place to draw its regions; off unless `[view]` is on."""
