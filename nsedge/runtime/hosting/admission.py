"""A tokenised request to a job: what can never run is refused here, with the limit it broke."""

from __future__ import annotations

from typing import Protocol

from nsedge.api import Chat, Generate, Request, Sampling
from nsedge.bundle.causal_lm import CausalLm
from nsedge.errors import ContextExceeded, InvalidParameter, UnsupportedTask
from nsedge.runtime.decode.engine import Engine
from nsedge.runtime.decode.job import Job
from nsedge.runtime.decode.likelihood import LogprobWriter
from nsedge.runtime.decode.sampling.row import SamplerRow, TokenRules
from nsedge.runtime.decode.sequence import Limits, Sequence
from nsedge.runtime.decode.speculation import PromptLookup
from nsedge.runtime.delivery import Emit
from nsedge.runtime.hosting.settling import settle
from nsedge.runtime.structure.guide import Guide
from nsedge.runtime.structure.structure import Structure
from nsedge.runtime.text.detokenizer import Detokenizer
from nsedge.runtime.text.prompt import PromptReader


class Writer(Protocol):
    """A text model, as a request needs it."""

    manifest: CausalLm
    capacity: int
    prompts: PromptReader
    detokenizer: Detokenizer
    engine: Engine
    structure: Structure


def text_task(request: Request) -> Generate | Chat:
    """The task of a request for text.

    Raises:
        UnsupportedTask: where it asks for something else.
    """
    if isinstance(request.task, Generate | Chat):
        return request.task
    raise UnsupportedTask(f"a text model does not {request.task.name}", param="model")


def make_job(
    request: Request,
    model: Writer,
    *,
    prompt_ids: tuple[int, ...],
    submitted_s: float,
    emit: Emit,
    adapter: str | None = None,
) -> Job:
    """Check a tokenised request against the model, and settle its defaults; `adapter` is the key of
    the one that it goes through.

    Raises:
        UnsupportedTask: where it asks for something else than text.
        ContextExceeded: where prompt, or prompt and max_tokens, do not fit.
        InvalidParameter: where a parameter does not fit the model, or the constraint cannot be
            compiled.
    """
    task, manifest = text_task(request), model.manifest
    sampling, answers = task.sampling, model.prompts.answers
    max_tokens = fit_max_tokens(len(prompt_ids), sampling, model.capacity)
    _check_ids(sampling, manifest.vocab_size)
    ends = () if sampling.ignore_eos else manifest.eos_token_ids
    tells = sampling.logprobs is not None or sampling.prompt_logprobs is not None
    clipped = sampling.max_tokens is not None and max_tokens < sampling.max_tokens
    return Job(
        request_id=request.request_id,
        sequence=Sequence(
            prompt_ids=prompt_ids,
            prompt_told=None if sampling.prompt_logprobs is None else 0,
            limits=Limits(
                max_tokens=max_tokens,
                min_tokens=sampling.min_tokens,
                end_ids=frozenset((*ends, *sampling.stop_token_ids)),
            ),
            submitted_s=submitted_s,
            lookup=PromptLookup(prompt_ids) if sampling.prompt_lookup else None,
            priority=request.priority,
            adapter=adapter,
            deadline_s=None if request.deadline_s is None else submitted_s + request.deadline_s,
        ),
        row=SamplerRow(
            settle(sampling, manifest.generation_defaults),
            seed=sampling.seed,
            logit_bias=sampling.logit_bias,
            prompt_ids=prompt_ids,
            logprobs=sampling.logprobs,
            rules=TokenRules(
                allowed=sampling.allowed_token_ids,
                banned=sampling.banned_token_ids,
                bad_words=model.prompts.spellings(sampling.bad_words),
                ends=sampling.stop_token_ids,
            ),
            vocabulary=manifest.vocab_size,
            text_of=model.detokenizer.tokens.octets,
        ),
        likelihood=LogprobWriter(model.detokenizer.tokens) if tells else None,
        prompt_logprobs=sampling.prompt_logprobs,
        text=model.detokenizer.stream(sampling.stop, answers.marks(task)),
        guide=guide_of(task, model, prompt_ids),
        emit=emit,
        answer=answers.reader(task, in_thought=lambda: model.prompts.in_thought(prompt_ids)),
        clipped_max_tokens=max_tokens if clipped else None,
    )


def guide_of(task: Generate | Chat, model: Writer, prompt_ids: tuple[int, ...]) -> Guide | None:
    """What holds the answer to a prompt to its grammar, if anything does.

    Raises:
        InvalidParameter: it cannot be compiled; where it is one of tools, their schemas cannot.
    """
    constraint = model.prompts.constraint(task, prompt_ids)
    if constraint is None:
        return None
    try:
        return model.structure.guide(constraint)
    except InvalidParameter as error:
        if constraint == task.constraint:
            raise
        raise InvalidParameter(f"tools: {error.message}", param="tools") from error


def fit_max_tokens(prompt_tokens: int, sampling: Sampling, capacity: int) -> int:
    """How many tokens may be written after `prompt_tokens` in a context of `capacity`.

    Raises:
        ContextExceeded: where the wish does not fit and may not be clipped.
        InvalidParameter: where min_tokens does not fit.
    """
    room = capacity - prompt_tokens
    if room < 1:
        raise ContextExceeded(
            f"the prompt has {prompt_tokens} tokens; the context holds {capacity}, of which one"
            " at least is for the answer",
            param="prompt",
            figures={"context_tokens": capacity, "prompt_tokens": prompt_tokens},
        )
    wish = room if sampling.max_tokens is None else sampling.max_tokens
    if wish > room and not sampling.clip_max_tokens:
        raise ContextExceeded(
            f"prompt ({prompt_tokens}) and max_tokens ({wish}) exceed the context of {capacity}"
            f" tokens; lower max_tokens to {room}, or set clip_max_tokens",
            param="max_tokens",
            figures={
                "context_tokens": capacity,
                "prompt_tokens": prompt_tokens,
                "max_tokens": wish,
            },
        )
    max_tokens = min(wish, room)
    if sampling.min_tokens > max_tokens:
        raise InvalidParameter(
            f"min_tokens {sampling.min_tokens} is above the {max_tokens} tokens that fit",
            param="min_tokens",
        )
    return max_tokens


def _check_ids(sampling: Sampling, vocab_size: int) -> None:
    for param, token in sampling.named_tokens():
        if not 0 <= token < vocab_size:
            raise InvalidParameter(
                f"{param} names token {token}; the vocabulary has {vocab_size}", param=param
            )
