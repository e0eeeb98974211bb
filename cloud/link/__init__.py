"""The cloud's end of the wire: which edges may speak, how much they may send, and when a frame is acked."""
