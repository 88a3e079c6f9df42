"""ONNX Runtime sessions, the memory bound to them, and steps run. Alone imports onnxruntime."""
