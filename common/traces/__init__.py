"""What became of a forwarded frame, as spans of OpenTelemetry: one trace a frame, on both sides of the wire."""
