"""nsedge: an embedded edge runtime daemon for quantised ONNX models."""

from nsedge.version import VERSION as __version__

__all__ = ["__version__"]
