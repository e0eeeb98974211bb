"""What edge and cloud say to each other: typed messages, signed manifests, and the sockets that carry them."""
