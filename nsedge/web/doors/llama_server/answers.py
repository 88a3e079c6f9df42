"""llama-server's completions, in one piece and as server-sent events; pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from nsedge.api import Delta, Finished, FinishReason, Logprobs, Sampling
from nsedge.web.answer_stream import AnswerStream, json_text
from nsedge.web.choices import Choice
from nsedge.web.doors.llama_server.errors import error_body
from nsedge.web.doors.llama_server.shapes import (
    Completion,
    End,
    Piece,
    Probabilities,
    TimingsObject,
    Token,
)
from nsedge.web.errors import Refusal
from nsedge.web.framing import SSE
from nsedge.web.logprobs import token_object, told
from nsedge.web.prompt_fields import Prompt
from nsedge.web.usage import clipped

_MARK = "\x00"
_encode = msgspec.json.Encoder().encode
_UNSET = Sampling()


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What was asked for.

    - prompts: one a choice, or nothing where they are not told.
    - tells_tokens: whether an answer in one piece tells the ids of its tokens.
    - fields: of an answer these alone, as paths; none is all of it.
    """

    model: str
    sampling: Sampling
    prompts: Sequence[Prompt]
    tells_tokens: bool = False
    fields: tuple[str, ...] = ()


def piece_of(index: int, text: str, token_ids: Sequence[int] = ()) -> Piece:
    """What carries a text, with the ids of its tokens."""
    return {"index": index, "content": text, "tokens": token_ids, "id_slot": -1}


def end_of(head: Head, index: int, finished: Finished, *, new_line: bool) -> End:
    """What the last object of a choice says of its end. new_line: whether its text holds one."""
    usage = finished.usage
    return {
        "stop": True,
        "model": head.model,
        "tokens_predicted": usage.completion_tokens,
        "tokens_evaluated": usage.prompt_tokens,
        "generation_settings": _settings(head.sampling),
        "prompt": head.prompts[index],
        "has_new_line": new_line,
        "truncated": False,
        "stop_type": _stop_type(finished),
        "stopping_word": finished.stop or "",
        "tokens_cached": usage.prompt_tokens + usage.completion_tokens,
        "timings": timings_of(finished),
        **clipped(finished),
    }


def whole_answer(head: Head, choices: Sequence[Choice]) -> list[Completion]:
    """The answers in one piece each."""
    return [
        _chosen(
            head,
            {
                **piece_of(index, choice.text, choice.token_ids if head.tells_tokens else ()),
                **end_of(head, index, choice.finished, new_line="\n" in choice.text),
                **probabilities(told(choice.results)),
            },
        )
        for index, choice in enumerate(choices)
    ]


def _chosen(head: Head, answer: Completion) -> Completion:
    """Of an answer the fields that were asked for; one that there is not is left out."""
    if not head.fields:
        return answer
    found: dict[str, Any] = {}
    for path in head.fields:
        *parents, name = path.split("/")
        within: Any = answer
        for parent in parents:
            within = within.get(parent) if isinstance(within, dict) else None
        if isinstance(within, dict) and name in within:
            found[name] = within[name]
    return cast(Completion, found)


def probabilities(tokens: Sequence[Logprobs]) -> Probabilities:
    """The log-probabilities of some tokens; nothing where there are none."""
    found: list[Token] = [
        {
            "id": one.id,
            **token_object(one),
            "top_logprobs": [{"id": other.id, **token_object(other)} for other in one.top],
        }
        for one in tokens
    ]
    return {"completion_probabilities": found} if found else {}


def timings_of(finished: Finished) -> TimingsObject:
    """How long prompt and answer took, in milliseconds, and their rates."""
    timings, usage = finished.timings, finished.usage
    read, written = usage.prompt_tokens - usage.cached_tokens, usage.completion_tokens
    return {
        "cache_n": usage.cached_tokens,
        "prompt_n": read,
        "prompt_ms": timings.prefill_s * 1e3,
        "prompt_per_token_ms": _ratio(timings.prefill_s * 1e3, read),
        "prompt_per_second": _ratio(read, timings.prefill_s),
        "predicted_n": written,
        "predicted_ms": timings.decode_s * 1e3,
        "predicted_per_token_ms": _ratio(timings.decode_s * 1e3, written),
        "predicted_per_second": _ratio(written, timings.decode_s),
    }


def _ratio(of: float, by: float) -> float:
    return of / by if by else 0.0


def _settings(sampling: Sampling) -> dict[str, Any]:
    """What the request set; all else is the model's own."""
    told = dataclasses.asdict(sampling)
    return {name: value for name, value in told.items() if value != getattr(_UNSET, name)}


def _stop_type(finished: Finished) -> str:
    if finished.reason is FinishReason.LENGTH:
        return "limit"
    return "eos" if finished.stop is None else "word"


class CompletionStream(AnswerStream):
    """Objects that carry text and the ids of its tokens, and one that says how it ended, for each
    choice."""

    tells_tokens = True

    def __init__(self, head: Head) -> None:
        super().__init__(len(head.prompts))
        self._head = head
        self._new_line = [False] * len(head.prompts)
        self._frames = [_frame(index) for index in range(len(head.prompts))]

    def error(self, refusal: Refusal) -> bytes:
        return SSE.record(error_body(refusal))

    def _piece(self, index: int, text: str) -> bytes:
        return self._framed(index, text, ())

    def _likely(self, index: int, delta: Delta) -> bytes:
        if not delta.logprobs:
            return self._framed(index, delta.text, delta.token_ids)
        self._new_line[index] |= "\n" in delta.text
        carried = piece_of(index, delta.text, delta.token_ids)
        return SSE.record(json_text({**carried, "stop": False, **probabilities(delta.logprobs)}))

    def _framed(self, index: int, text: str, token_ids: Sequence[int]) -> bytes:
        self._new_line[index] |= "\n" in text
        before, between, after = self._frames[index]
        return before + json_text(text) + between + _encode(token_ids) + after

    def _closing(self, index: int, event: Finished) -> bytes:
        end = end_of(self._head, index, event, new_line=self._new_line[index])
        last: Completion = {**piece_of(index, ""), **end, **probabilities(())}
        return SSE.record(_encode(_chosen(self._head, last)))


def _frame(index: int) -> tuple[bytes, bytes, bytes]:
    """What stands before a text, between it and its tokens, and after these."""
    whole = SSE.record(_encode({**piece_of(index, _MARK), "stop": False}))
    before, _, rest = whole.partition(_encode(_MARK))
    between, _, after = rest.partition(_encode(()))
    return before, between, after
