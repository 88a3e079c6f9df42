"""The executor that a variant's graph needs."""

from __future__ import annotations

from nsedge.runtime.graph.executor import Executor, Source
from nsedge.runtime.graph.ragged import RaggedExecutor
from nsedge.runtime.graph.rows import RowExecutor


def open_executor(source: Source) -> Executor:
    """Make `source` ready to run; raises what `Executor` does."""
    kind = RowExecutor if source.variant.io.segments is None else RaggedExecutor
    return kind(source)
