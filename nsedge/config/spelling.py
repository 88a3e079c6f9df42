"""Guesses at the name that was meant where there is none of that spelling."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(name: str, candidates: Iterable[str]) -> str:
    """`; did you mean engine.slots?`, for the candidate most like `name`; empty where none is.

    Of dotted names the last part counts first.
    """
    import difflib  # slow to import, and only needed after a mistake

    known = list(candidates)
    last = {path.rpartition(".")[2]: path for path in known}
    near = difflib.get_close_matches(name.rpartition(".")[2], last, n=1, cutoff=0.9)
    near = [last[word] for word in near] or difflib.get_close_matches(name, known, n=1)
    if not near:
        near = [last[word] for word in difflib.get_close_matches(name.rpartition(".")[2], last)]
    return f"; did you mean {near[0]}?" if near else ""
