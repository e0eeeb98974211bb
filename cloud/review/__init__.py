"""Labels of a camera, to people and back: what is taken out, what they make of it, and what is worth their look."""
