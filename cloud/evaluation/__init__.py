"""How right a model is: matching of boxes, average precision, and the held-out part of a clip."""
