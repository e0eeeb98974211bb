"""Label files: the formats that other tools write and read, and what a person says of a camera's frames."""
