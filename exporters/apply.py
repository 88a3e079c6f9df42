"""From a scheme's name to the passes that make it."""

from __future__ import annotations

from exporters.graph import Graph
from exporters.observe import Calibration
from exporters.quantise import quantise
from exporters.schemes import Method, Scheme
from exporters.w8a8 import quantise_w8a8


def apply_scheme(graph: Graph, scheme: Scheme, calibration: Calibration) -> dict[str, int]:
    """Quantise every matrix of `graph` in place; what stays fp32, as kind -> bytes.

    Raises:
        Refused: the scheme does not fit the model.
    """
    if scheme.method is Method.ROTATED:
        return quantise_w8a8(graph, scheme, calibration)
    return quantise(graph, scheme)
