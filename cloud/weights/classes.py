"""What the bundled student and teacher find; nothing else in the code knows a class by name."""

CLASSES = ("person", "bicycle", "car", "motorcycle", "bus", "truck")
"""In label order: the classes of every camera that no set of the settings holds."""
