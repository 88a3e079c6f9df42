"""The list of models in pages."""

from __future__ import annotations

from typing import Any

import pytest

from nsedge.api import ModelInfo, ModelState
from nsedge.errors import InvalidParameter
from nsedge.web.doors.anthropic.models import page_of
from tests.fakes import MODEL
from tests.web_server import answered

MODELS = tuple(
    ModelInfo(name=f"m{number}", kind="causal-lm", state=ModelState.READY, created=0)
    for number in range(25)
)


def names(page: dict[str, Any]) -> list[str]:
    found = [one["id"] for one in page["data"]]
    assert (page["first_id"], page["last_id"]) == ((found or [None])[0], (found or [None])[-1])
    return found


@pytest.mark.parametrize(
    ("query", "first", "last", "has_more"),
    [
        ({}, 0, 20, True),
        ({"limit": "25"}, 0, 25, False),
        ({"limit": "3"}, 0, 3, True),
        ({"limit": "3", "after_id": "m2"}, 3, 6, True),
        ({"after_id": "m10"}, 11, 25, False),
        ({"after_id": "m24"}, 25, 25, False),
        ({"limit": "3", "before_id": "m6"}, 3, 6, True),
        ({"limit": "3", "before_id": "m3"}, 0, 3, False),
        ({"before_id": "m0"}, 0, 0, False),
    ],
)
def test_a_page_goes_either_way(
    query: dict[str, str], first: int, last: int, has_more: bool
) -> None:
    page = page_of(MODELS, query)
    assert names(page) == [one.name for one in MODELS[first:last]]
    assert page["has_more"] is has_more


def test_pages_after_each_other_are_all_models_once() -> None:
    seen, query = [], {"limit": "4"}
    while True:
        page = page_of(MODELS, query)
        seen += names(page)
        if not page["has_more"]:
            break
        query = {"limit": "4", "after_id": page["last_id"]}
    assert seen == [one.name for one in MODELS]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"limit": "٣"}, "limit"),
        ({"limit": "9" * 5000}, "limit"),
        ({"after_id": "none"}, "after_id"),
        ({"before_id": ""}, "before_id"),
        ({"after_id": "m1", "before_id": "m3"}, "before_id"),
    ],
)
def test_what_is_no_page_is_refused_by_name(query: dict[str, str], param: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        page_of(MODELS, query)
    assert refused.value.param == param
    assert len(refused.value.message) < 120


def test_the_route_reads_its_query() -> None:
    path = f"/v1/models?limit=1&after_id={MODEL}"
    page: Any = answered("GET", path, anthropic_version="2023-06-01").json
    assert (page["data"], page["has_more"], page["first_id"]) == ([], False, None)
    refused = answered("GET", "/v1/models?limit=-1", anthropic_version="2023-06-01")
    assert refused.status == 400
    assert refused.json["error"]["type"] == "invalid_request_error"
