"""Parts of a pre-training recipe: what happens to canvases, which images are drawn, and what becomes of the weights."""
