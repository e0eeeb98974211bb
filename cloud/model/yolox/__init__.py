"""The family `yolox`: a small one-stage student for edges without a GPU (Ge et al., arXiv 2107.08430)."""
