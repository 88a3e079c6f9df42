"""Activations that transformers' configurations name, and what computes them."""

from __future__ import annotations

OPERATORS = {
    "gelu": "Gelu",
    "gelu_new": "FastGelu",
    "gelu_pytorch_tanh": "FastGelu",
    "quick_gelu": "QuickGelu",
}
"""ONNX Runtime's operator of each."""
