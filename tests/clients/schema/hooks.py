"""What schemathesis cannot read in the document: texts of our own formats, and rules between fields
that JSON Schema has no words for. Run by schemathesis, in its environment."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import schemathesis
from hypothesis import strategies as st

PICTURE = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(16)).decode()
SOURCE = {"type": "base64", "media_type": "image/png", "data": PICTURE}
"""One that is not fetched, as nothing is here."""
TEXT = {
    "type": "object",
    "required": ["type", "text"],
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
}
FILM = base64.b64encode(b"GIF89a\x01\0\x01\0\0\0\0,").decode()
FORMATS = {
    "json-schema": st.sampled_from(['{"type": "object"}', '{"type": "integer"}', "true", "{}"]),
    "rust-regex": st.sampled_from(["[a-z]+", "yes|no", "\\d{2,4}", "."]),
    "grammar": st.sampled_from(['start: "a" "b"?', 'root ::= "a" | "b"', "start: /[a-z]+/"]),
    "base64": st.binary(min_size=1, max_size=16).map(lambda raw: base64.b64encode(raw).decode()),
    "language": st.sampled_from(["", "en", "English", "haitian creole", "yue"]),
    "picture": st.just(PICTURE),
    "sound": st.just("data:audio/wav;base64,UklGRg=="),
    "film": st.just("data:video/gif;base64,R0lGODlhAQABAAAAACw="),
}
for name, strategy in FORMATS.items():
    schemathesis.openapi.format(name, strategy)


CONSTRAINTS = (
    *("response_format", "structured_outputs", "grammar", "json_schema", "regex", "ebnf"),
    *(f"guided_{kind}" for kind in ("json", "json_object", "regex", "choice", "grammar")),
)
SAME = (
    ("max_tokens", "max_completion_tokens"),
    ("repetition_penalty", "repeat_penalty"),
    ("penalty_last_n", "repeat_last_n"),
    ("beams", "num_beams"),
)
OK = 200
MODEL = "echo"
"""That the fake core has."""
DIMENSIONS = 8
"""Of its vectors."""


OF_CONSTRAINTS = "nsedge.web.constraint_fields.ConstraintFields.rule1"
OF_CHATS = tuple(f"nsedge.web.doors.openai.bodies.ChatBody.rule{number}" for number in (1, 2, 3))
"""Rules that are together more than the generators can hold: bodies that they make are mended by
hand, or left out."""
WRITTEN = ("tools", "documents", "chat_template_kwargs")
"""Fields that hold whatever JSON has, and are passed on in MessagePack."""
MOST = ("max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict")
STEPS = {"typ_p": "typical_p", "typical": "typical_p", "nucleus": "top_p", "temp": "temperature"}
"""Other names of a sampler's steps."""
UNSEEN = ("/apply-template", "/v1/messages/count_tokens")
"""Routes that tell of a prompt, which pictures and sound have none of."""
DRAWN = ("/v1/images/generations", "/sdapi/v1/txt2img", "/sdapi/v1/img2img")
SAMPLER = "Euler"
MEDIA = (
    *("image", "image_url", "input_image", "audio_url", "input_audio"),
    *("video", "video_url", "input_video"),
)
fields: dict[str, set[str]] = {}
"""The fields of each route's body."""
rules: dict[str, dict[str, Any]] = {}
"""Those that generators are not told."""
kept: set[str] = set()
"""The responses that can be gone on from."""


@schemathesis.hook
def before_load_schema(context: Any, raw_schema: dict[str, Any]) -> None:
    """Without the rule that generators cannot hold, where they are at work."""
    schemas = raw_schema["components"]["schemas"]
    if "coverage" not in os.environ["NSEDGE_PHASES"]:
        schemas[OF_CONSTRAINTS] = {}
        for name in OF_CHATS:
            rules[name], schemas[name] = schemas[name], {}
        # What a tool gave is texts; told by a rule, generators go round in it without end.
        schemas["Block"]["properties"]["content"]["anyOf"][1]["items"] = TEXT
    for path, methods in raw_schema["paths"].items():
        content = methods.get("post", {}).get("requestBody", {}).get("content", {})
        fields[path] = {*()}.union(*(fields_of(one["schema"], schemas) for one in content.values()))


def fields_of(schema: dict[str, Any], schemas: dict[str, Any]) -> set[str]:
    """The fields of a body."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    told = (fields_of(one, schemas) for one in schema.get("anyOf", ()))
    return {*schema.get("properties", {})}.union(*told)


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """Note the responses that the server keeps."""
    answered = case.operation.path == "/v1/responses" and response.status_code == OK
    if answered and "json" in response.headers["content-type"][0]:
        told = response.json()
        if told["store"]:
            kept.add(told["id"])


@schemathesis.hook
def map_case(context: Any, case: Any) -> Any:
    """Bodies that are valid keep the rules, and name the model that is there, so that they come
    further than that."""
    if is_valid(case) and isinstance(case.body, dict):
        mend(case.body, case.operation.path)
    return case


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """Valid cases that break no rule; and all that are meant to be invalid."""
    return not (is_valid(case) and isinstance(case.body, dict) and any(broken(case.body)))


def is_valid(case: Any) -> bool:
    return case.meta is None or case.meta.generation.mode.is_positive


def mend(body: dict[str, Any], path: str) -> None:
    """Have a body keep the rules that JSON Schema has no words for."""
    for field in set().union(*fields.values()) - fields[path]:
        body.pop(field, None)  # what means something elsewhere is not left out in silence
    for field in ("model", "model_key"):
        if body.get(field) is not None:
            body[field] = MODEL
    for said in (body, body.get("config")):
        if isinstance(said, dict):
            say_once(said)
            write_enough(said)
            if steps := said.get("samplers"):
                said["samplers"] = each_once(steps)
    if (body.get("dimensions") or 0) > DIMENSIONS:
        body["dimensions"] = DIMENSIONS
    if body.get("previous_response_id") not in kept:
        body.pop("previous_response_id", None)
    name_tools(body)
    answer_calls(body)
    go_on(body)
    keep_the_rules_of_forms(body)
    show_films(body)
    answer_in_texts(body)
    mend_for(path, body)


def mend_for(path: str, body: dict[str, Any]) -> None:
    """Have a body keep the rules of one route."""
    if path.startswith("/v1/messages"):
        end_with_a_question(body)
    if path in DRAWN:
        draw(body)
    if path == "/api/multimodal/vision/caption":
        body.pop("prompt", None)  # of models that caption, which the fake core has none of
    if path in UNSEEN:
        show_nothing(body)


def say_once(fields: dict[str, Any]) -> None:
    """Of fields that mean the same, and of those that say what an answer must look like, one."""
    for group in (*SAME, CONSTRAINTS):
        said = [name for name in fields if _snake(name) in group and fields[name] is not None]
        for name in said[1:]:
            del fields[name]
    if any(name in fields for name in CONSTRAINTS) and isinstance(fields.get("text"), dict):
        fields["text"].pop("format", None)


def write_enough(fields: dict[str, Any]) -> None:
    """No more tokens must be written than may."""
    said = {_snake(name): name for name in fields}
    limits = [fields[said[name]] for name in MOST if name in said]
    most = min((limit for limit in limits if limit is not None and limit > 0), default=2**31)
    least = said.get("min_tokens")
    if least is not None and (fields[least] or 0) > most:
        fields[least] = most


def each_once(steps: str | list[str]) -> str | list[str]:
    """The steps of a sampler, none under two names."""
    if isinstance(steps, str):
        return "".join(dict.fromkeys(steps))
    return [*{STEPS.get(name, name): name for name in steps}.values()]


def name_tools(body: dict[str, Any]) -> None:
    """No two tools have one name, and those that are to be called are among them."""
    tools = {(tool.get("function") or tool).get("name"): tool for tool in body.get("tools") or ()}
    if not tools:
        return
    body["tools"] = [*tools.values()]
    for choice in called(body.get("tool_choice")):
        if choice["name"] not in tools:
            choice["name"] = next(iter(tools))


def called(choice: Any) -> Iterator[dict[str, Any]]:
    """What names a tool, in a choice of such."""
    if isinstance(choice, dict) and choice.get("type") in ("tool", "function"):
        yield choice.get("function") or choice
    elif isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        yield from (one["function"] for one in choice["allowed_tools"]["tools"])


def answer_calls(body: dict[str, Any]) -> None:
    """What a tool gave, in a turn of Anthropic's, is of a call before it; or else it is a text."""
    calls: list[str] = []
    for turn in body.get("messages") or ():
        for block in turn["content"] if isinstance(turn.get("content"), list) else ():
            if block.get("type") == "image":
                block["source"] = SOURCE
            elif block.get("type") == "tool_use":
                calls.append(block["id"])
            elif block.get("type") == "tool_result" and calls:
                block["tool_use_id"] = calls[-1]
            elif block.get("type") == "tool_result":
                block |= {"type": "text", "text": "nothing was called"}


def go_on(body: dict[str, Any]) -> None:
    """What goes on with a message goes on with the last, which is the assistant's, and a text."""
    *others, last = body.get("messages") or [{}]
    for turn in others:
        turn.pop("prefix", None)
        turn.pop("partial", None)
    said = last.get("content")
    if last.get("role") != "assistant" or last.get("tool_calls") or not isinstance(said, str):
        last.pop("prefix", None)
        last.pop("partial", None)
        body.pop("continue_final_message", None)


def end_with_a_question(body: dict[str, Any]) -> None:
    """What Anthropic's clients end with the assistant is gone on with: that must be a text."""
    last = (body.get("messages") or [{}])[-1]
    if last.get("role") != "user" or not isinstance(last.get("content"), str):
        body["messages"].append({"role": "user", "content": "go on"})


def draw(body: dict[str, Any]) -> None:
    """By a sampler that there is, which the document does not list; and by no model of a name, as
    the fake core has none that draws."""
    for name in ("model", "scheduler"):
        body.pop(name, None)
    body |= {name: SAMPLER for name in ("sampler_name", "sampler_index") if body.get(name)}


def show_films(body: dict[str, Any]) -> None:
    """Films are films, and what is looked at of each is said once."""
    items = body["input"] if isinstance(body.get("input"), list) else ()
    for turn in (*(body.get("messages") or ()), *items):
        if not isinstance(turn, dict):
            continue
        for film in turn.get("videos") or ():
            film["data_base64"] = FILM
        for part in turn["content"] if isinstance(turn.get("content"), list) else ():
            if isinstance(part.get("video_url"), dict):
                part.pop("fps", None)
                part.pop("frames", None)


def answer_in_texts(body: dict[str, Any]) -> None:
    """What a tool gave, as an item of a response, is a text, or texts."""
    for item in body["input"] if isinstance(body.get("input"), list) else ():
        if isinstance(item, dict) and isinstance(item.get("output"), list):
            item["output"] = "it is so"


def keep_the_rules_of_forms(body: dict[str, Any]) -> None:
    """Rules of schemas with files, which the tool cannot hold a body to."""
    if "image" in body or "audio" in body:
        body.pop("raw", None)
    if "messages" not in body:
        # The tool makes files, and no films.
        for name in ("video", "fps", "frames"):
            body.pop(name, None)
    if body.get("response_format") != "verbose_json":
        body.pop("timestamp_granularities", None)
    if body.get("response_format") in ("verbose_json", "srt", "vtt"):
        body.pop("stream", None)


def show_nothing(body: dict[str, Any]) -> None:
    """A text in the place of each picture and sound."""
    for turn in body.get("messages") or ():
        for part in turn["content"] if isinstance(turn.get("content"), list) else ():
            if part.get("type") in MEDIA:
                part |= {"type": "text", "text": "a picture"}


def broken(body: dict[str, Any]) -> Iterator[bool]:
    """Whether each rule is broken that a body cannot be mended by."""
    if "messages" in body:
        yield from (not jsonschema_rs.is_valid(rule, body) for rule in rules.values())
    yield any(map(is_too_large, numbers_of([body.get(name) for name in WRITTEN])))
    yield from _beams(
        body | {_snake(name): one for name, one in (body.get("config") or {}).items()}
    )


def _beams(fields: dict[str, Any]) -> Iterator[bool]:
    """Whether what is said of a beam search contradicts itself."""
    search, n = fields.get("use_beam_search"), fields.get("n") or fields.get("n_cmpl") or 1
    beams = fields.get("beams") or fields.get("num_beams")
    beams = beams or (fields.get("best_of") or n if search else 1)
    yield search is False and beams > 1
    yield bool(search and fields.get("temperature"))
    yield beams > 1 and n > beams
    of_them = (fields.get("length_penalty"), fields.get("early_stopping"))
    yield beams == 1 and (of_them[0] not in (None, 1) or of_them[1] not in (None, False))


def numbers_of(value: Any) -> Iterator[int]:
    """The integers in a value from JSON."""
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from numbers_of(one)
    elif isinstance(value, int):
        yield value


def is_too_large(number: int) -> bool:
    """Whether a number has more than 64 bits."""
    return not -(2**63) <= number < 2**64


def _snake(name: str) -> str:
    return re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", name)
