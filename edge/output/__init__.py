"""Detections out: what the student finds, to files, programs, brokers and servers, without ever holding up a camera."""
