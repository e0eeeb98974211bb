"""What the service needs, tried before it starts: `culling cloud check`, and the teacher at every start."""
