"""What a student learns from beside labels: the features of its teacher, and the teacher's box head on them."""
