"""The resident worker: the teacher labels frames as they come, in batches, across cameras. Rounds only read labels."""
