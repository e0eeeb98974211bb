"""What decides for a camera: when a round starts, what an operator asked for, which model is published."""
