"""What all studies share: the clip, students trained on parts of it, ways to choose frames, and results."""
