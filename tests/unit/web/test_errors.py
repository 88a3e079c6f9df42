"""Every error has a status and a type on the wire."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from nsedge.api import Failed, Sampling
from nsedge.errors import (
    ConfigInvalid,
    ContextExceeded,
    NsedgeError,
    QueueFull,
    UnknownModel,
    tree,
)
from nsedge.ipc import events, protocol
from nsedge.ipc import messages as wire
from nsedge.runtime.hosting.admission import fit_max_tokens
from nsedge.web import doors
from nsedge.web.door import Door
from nsedge.web.doors.openai.bodies import ChatBody
from nsedge.web.doors.openai.errors import NAMES, error_body, reworded, type_of
from nsedge.web.errors import STATUSES, Refusal, plain_error
from nsedge.web.limits import WebLimits
from nsedge.web.other_fields import HARMLESS, NEUTRAL


@pytest.mark.parametrize("error", list(tree()), ids=lambda error: error.code)
def test_every_error_of_the_tree_is_mapped(error: type[NsedgeError]) -> None:
    assert error.code in STATUSES, f"{error.__name__} has no status"
    status = STATUSES[error.code]
    assert 400 <= status < 600
    if error.retryable:
        assert status >= 500 or status == 429


def test_a_code_of_a_newer_core_is_internal() -> None:
    refusal = Refusal(code="melted", message="it melted")
    assert refusal.status == 500
    assert msgspec.json.decode(error_body(refusal)) == {
        "error": {"message": "it melted", "type": "server_error", "param": None, "code": "melted"}
    }


def test_openai_names_are_used_where_clients_match_them() -> None:
    refusal = Refusal.of(UnknownModel("no model", param="model"))
    assert msgspec.json.decode(error_body(refusal))["error"]["code"] == "model_not_found"
    assert msgspec.json.decode(plain_error(refusal))["error"]["code"] == "unknown_model"


CONTEXT = "This model's maximum context length is 100 tokens. However, "


@pytest.mark.parametrize(
    ("prompt_tokens", "max_tokens", "told"),
    [
        (130, None, "your {0} resulted in 130 tokens. Please reduce the length of the {0}."),
        (
            100,
            None,
            "your {0} resulted in 100 tokens, and the answer needs one at least."
            " Please reduce the length of the {0}.",
        ),
        (
            60,
            50,
            "you requested 110 tokens (60 in the {0}, 50 in the completion)."
            " Please reduce the length of the {0} or completion.",
        ),
    ],
)
@pytest.mark.parametrize("field", ["messages", "prompt"])
def test_a_context_too_short_is_worded_as_openai_does(
    field: str, prompt_tokens: int, max_tokens: int | None, told: str
) -> None:
    """From the core's own refusal on, as its figures travel."""
    with pytest.raises(ContextExceeded) as caught:
        fit_max_tokens(prompt_tokens, Sampling(max_tokens=max_tokens), 100)
    message = protocol.decode_server(events.encode_event(Failed.of("r", caught.value)))
    assert isinstance(message, wire.Failed)
    failed = events.event_of(message)
    assert isinstance(failed, Failed)
    assert events.error_of(message).figures == caught.value.figures
    error = msgspec.json.decode(error_body(reworded(Refusal.of(failed), field)))["error"]
    assert error == {
        "message": CONTEXT + told.format(field),
        "type": "invalid_request_error",
        "param": field,
        "code": "context_length_exceeded",
    }
    plain = msgspec.json.decode(plain_error(Refusal.of(failed)))["error"]
    assert (plain["code"], plain["message"]) == ("context_exceeded", caught.value.message)


def test_without_figures_the_cores_own_words_stand() -> None:
    refusal = reworded(Refusal.of(ContextExceeded("too long", param="prompt")), "messages")
    assert (refusal.message, refusal.param) == ("too long", "messages")


@pytest.mark.parametrize(
    ("after_s", "seconds", "ms"), [(None, "1", "1000"), (0.25, "1", "250"), (7.5, "8", "7500")]
)
def test_a_retryable_refusal_says_when(after_s: float | None, seconds: str, ms: str) -> None:
    assert Refusal.of(QueueFull("full", retry_after_s=after_s)).headers() == {
        "X-Should-Retry": "true",
        "Retry-After": seconds,
        "Retry-After-Ms": ms,
    }


def test_the_others_say_not_to() -> None:
    assert Refusal.of(NsedgeError("broke")).headers() == {"X-Should-Retry": "false"}


@pytest.mark.parametrize(
    ("limits", "param"),
    [
        (WebLimits(max_body_bytes=0), "max_body_bytes"),
        (WebLimits(keepalive_s=float("inf")), "keepalive_s"),
        (WebLimits(drain_s=-1), "drain_s"),
        (WebLimits(cors_origins=("*",)), "cors_origins"),
        (WebLimits(cors_origins=("null",)), "cors_origins"),
        (WebLimits(cors_origins=("example.org",)), "cors_origins"),
        (WebLimits(cors_origins=("http://a/",)), "cors_origins"),
    ],
)
def test_impossible_limits_are_refused(limits: WebLimits, param: str) -> None:
    with pytest.raises(ConfigInvalid, match=param) as caught:
        limits.check()
    assert caught.value.param == param


def test_the_defaults_are_possible() -> None:
    WebLimits().check()
    WebLimits(drain_s=0, cors_origins=("http://localhost:5173",)).check()
    assert WebLimits().cors_origins == ()


DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "http.md").read_text(encoding="utf-8")


def test_the_page_tells_every_field_that_is_not_honoured() -> None:
    page = (DOCS / "doors" / "openai.md").read_text(encoding="utf-8")
    _, _, rest = page.partition("### Other fields")
    section = rest.partition("\n### ")[0]
    elsewhere = {*HARMLESS, *NEUTRAL} - {*ChatBody.__struct_fields__}
    assert set(re.findall(r"`([a-z_]+)`", section)) >= elsewhere


def test_the_page_tells_every_code() -> None:
    for code, status in STATUSES.items():
        name = f"`{code}`"
        if code in NAMES:
            name += f", under `/v1` `{NAMES[code]}`"
        assert f"| {name} | {status} | `{type_of(status)}` |" in PAGE


@pytest.mark.parametrize("door", doors.ALL, ids=lambda door: door.name)
def test_each_door_has_a_page_with_its_routes(door: Door) -> None:
    assert f"| [`{door.name}`](doors/{door.name}.md) |" in PAGE
    page = (DOCS / "doors" / f"{door.name}.md").read_text(encoding="utf-8")
    for route in door.routes:
        assert f"| `{route.method} {route.path}` |" in page
