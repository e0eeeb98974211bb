"""What the service keeps on disk: frames, labels, rounds, models, edges, requests and keys."""
