"""Prompts that are continued: texts, or the tokens of them."""

from __future__ import annotations

from typing import Any

import pytest

from nsedge.api import Generate
from tests.fakes import MODEL, FakeService
from tests.web_server import answered


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("x", [("x", None)]),
        ([1, 2], [("", (1, 2))]),
        ([1.0, 2], [("", (1, 2))]),
        (["x", [3.0]], [("x", None), ("", (3,))]),
        ([[1, 2], [3]], [("", (1, 2)), ("", (3,))]),
        (["x", [3]], [("x", None), ("", (3,))]),
    ],
)
def test_prompts_of_a_completion(prompt: Any, wanted: list[Any]) -> None:
    service = FakeService()
    body = {"model": MODEL, "prompt": prompt}
    assert answered("POST", "/v1/completions", body, service=service).status == 200
    tasks = [request.task for request in service.requests]
    assert [(task.text, task.token_ids) for task in tasks if isinstance(task, Generate)] == wanted
