"""What the service needs, tried before it starts: `culling cloud check`, the teacher at every start, and on a video."""
