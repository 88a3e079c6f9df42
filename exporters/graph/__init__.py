"""ONNX graphs: reading, joining, and the forms for a device."""
