"""What decides on students that are new to their cameras: the comparison with the one in use, and waves of cameras."""
