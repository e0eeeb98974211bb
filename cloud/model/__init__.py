"""Detectors in torch: student and teacher, their weights, data, training, and the export to ONNX."""
