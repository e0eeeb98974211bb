"""What a round that distils needs: the teacher's box head, and the features that were kept of its frames."""
