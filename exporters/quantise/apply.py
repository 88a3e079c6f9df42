"""From a scheme's name to the passes that make it."""

from __future__ import annotations

from exporters.graph.graph import Graph
from exporters.model.source import Source
from exporters.quantise.blocks import quantise
from exporters.quantise.mixed import quantise_mixed
from exporters.quantise.observe import Calibration
from exporters.quantise.own import quantise_own
from exporters.quantise.schemes import Method, Scheme
from exporters.quantise.w8a8 import quantise_w8a8
from exporters.quantise.x4 import quantise_x4


def apply_scheme(
    graph: Graph, scheme: Scheme, calibration: Calibration, source: Source
) -> dict[str, int]:
    """Quantise every matrix of `graph`, which is of `source`, in place; what stays fp32, as kind ->
    bytes.

    Raises:
        Refused: the scheme does not fit the model.
    """
    if scheme.method is Method.ROTATED:
        return quantise_w8a8(graph, scheme, calibration)
    if scheme.method is Method.MIXED:
        return quantise_mixed(graph, scheme, calibration)
    if scheme.method is Method.EXACT:
        return quantise_x4(graph, scheme)
    if scheme.method is Method.OWN:
        return quantise_own(graph, scheme, source)
    return quantise(graph, scheme)
