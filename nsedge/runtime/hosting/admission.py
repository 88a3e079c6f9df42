"""A tokenised request to a job: what can never run is refused here, with the limit it broke."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from nsedge.api import Chat, Constraint, Generate, Request, Sampling
from nsedge.api.sampling import seed_of
from nsedge.bundle.caption import Caption
from nsedge.bundle.causal_lm import CausalLm
from nsedge.errors import ContextExceeded, InvalidParameter, UnsupportedTask
from nsedge.runtime.decode.beams import ByBest
from nsedge.runtime.decode.conditioning import PromptMedia
from nsedge.runtime.decode.engine import Engine
from nsedge.runtime.decode.job import Family, Job
from nsedge.runtime.decode.likelihood import LogprobWriter
from nsedge.runtime.decode.sampling.history import Breakers
from nsedge.runtime.decode.sampling.params import SamplingParams
from nsedge.runtime.decode.sampling.row import SamplerRow, TokenRules
from nsedge.runtime.decode.searching import begin
from nsedge.runtime.decode.sequence import Limits, Sequence
from nsedge.runtime.decode.speculation import PromptLookup
from nsedge.runtime.delivery import Emit
from nsedge.runtime.hosting.settling import settle
from nsedge.runtime.structure.guide import Guide
from nsedge.runtime.structure.structure import Structure
from nsedge.runtime.text.answer.grammar import schemas_of
from nsedge.runtime.text.detokenizer import Detokenizer
from nsedge.runtime.text.prompt import PromptReader


class Writer(Protocol):
    """A text model, as a request needs it."""

    capacity: int
    slots: int
    prompts: PromptReader
    detokenizer: Detokenizer
    engine: Engine
    structure: Structure

    @property
    def manifest(self) -> CausalLm | Caption:
        """What is known of it."""


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
    media: PromptMedia | None = None,
) -> Job:
    """Check a tokenised request against the model, and settle its defaults; `adapter` is the key of
    the one that it goes through, `media` what its prompt has in the place of tokens.

    Raises:
        UnsupportedTask: where it asks for something else than text.
        ContextExceeded: where prompt, or prompt and max_tokens, do not fit.
        InvalidParameter: where a parameter does not fit the model, or the constraint cannot be
            compiled.
    """
    task = text_task(request)
    asked = ask_for(
        request,
        task,
        model,
        prompt_ids=prompt_ids,
        submitted_s=submitted_s,
        emit=emit,
        adapter=adapter,
        media=media,
    )
    return asked.first()


def ask_for(
    request: Request,
    task: Generate | Chat,
    model: Writer,
    *,
    prompt_ids: tuple[int, ...],
    submitted_s: float,
    emit: Emit,
    adapter: str | None = None,
    media: PromptMedia | None = None,
) -> Asked:
    """A request whose jobs can be made without further checks, once it is known what they are
    about: `task` is what it asks for, in the words of a text model. Raises as `make_job` does."""
    manifest, sampling = model.manifest, task.sampling
    max_tokens = fit_max_tokens(len(prompt_ids), sampling, model.capacity)
    _check_ids(sampling, manifest.vocab_size)
    if sampling.beams > model.slots:
        raise too_many(sampling.beams, model.slots)
    asked = Asked(
        request=request,
        task=task,
        model=model,
        prompt_ids=prompt_ids,
        submitted_s=submitted_s,
        emit=emit,
        adapter=adapter,
        media=media,
        max_tokens=max_tokens,
        # All now: the thread of a model must not wait for a tokenizer or a grammar.
        rules=TokenRules(
            allowed=sampling.allowed_token_ids,
            banned=sampling.banned_token_ids,
            bad_words=model.prompts.spellings(sampling.bad_words),
            ends=sampling.stop_token_ids
            + (() if sampling.ignore_eos else model.prompts.ends(task)),
        ),
        guides=[
            guide_of(task, prompt_ids, prompts=model.prompts, structure=model.structure)
            for _ in range(sampling.n)
        ],
        params=settle(sampling, manifest.generation_defaults),
    )
    if sampling.beams > 1 and asked.guides[0] is not None:
        param = "tools" if task.constraint is None else "constraint"
        raise InvalidParameter(
            f"{param} holds the answer to a grammar, which beams cannot be held to", param=param
        )
    return asked


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request that can run; each of its choices is a job."""

    request: Request
    task: Generate | Chat
    model: Writer
    prompt_ids: tuple[int, ...]
    submitted_s: float
    emit: Emit
    adapter: str | None
    media: PromptMedia | None
    max_tokens: int
    rules: TokenRules
    guides: list[Guide | None]
    params: SamplingParams
    memory: int | None = None
    """The row of an encoder's memory that it is about."""

    def first(self) -> Job:
        """The first of its jobs, which begins the others."""
        job, sampling = self.job(0), self.task.sampling
        if sampling.beams > 1:
            self._search(job)
        elif sampling.n > 1:
            Family(job, count=sampling.n, make=self.job)
        return job

    def job(self, choice: int) -> Job:
        """The job of one choice; the first of them tells of the prompt."""
        task, sampling, model = self.task, self.task.sampling, self.model
        answers = model.prompts.answers
        of_prompt = None if choice else sampling.prompt_logprobs
        tells = sampling.logprobs is not None or of_prompt is not None
        clipped = sampling.max_tokens is not None and self.max_tokens < sampling.max_tokens
        return Job(
            request_id=self.request.request_id,
            choice=choice,
            sequence=self._sequence(told=None if of_prompt is None else 0),
            row=self._row(choice),
            likelihood=LogprobWriter(model.detokenizer.tokens) if tells else None,
            prompt_logprobs=of_prompt,
            text=model.detokenizer.stream(sampling.stop, answers.marks(task)),
            guide=self.guides[choice],
            emit=self.emit,
            answer=answers.reader(
                task, in_thought=lambda: model.prompts.in_thought(task, self.prompt_ids)
            ),
            clipped_max_tokens=self.max_tokens if clipped else None,
        )

    def _search(self, first: Job) -> None:
        """Have the texts found by beams."""
        sampling = self.task.sampling
        ending = ByBest(
            beams=sampling.beams,
            max_tokens=self.max_tokens,
            length_penalty=sampling.length_penalty,
            early_stopping=sampling.early_stopping,
        )
        stops = Breakers(sampling.stop, self.model.detokenizer.tokens.octets)
        make = self.job if sampling.n > 1 else None
        begin(first, ending, beams=sampling.beams, count=sampling.n, make=make, stops=stops)

    def _sequence(self, *, told: int | None) -> Sequence:
        sampling, request, submitted_s = self.task.sampling, self.request, self.submitted_s
        ends = () if sampling.ignore_eos else self.model.manifest.eos_token_ids
        # Beside others none are checked.
        guesses = sampling.prompt_lookup and sampling.n == sampling.beams == 1
        return Sequence(
            prompt_ids=self.prompt_ids,
            prompt_told=told,
            limits=Limits(
                max_tokens=self.max_tokens,
                min_tokens=sampling.min_tokens,
                end_ids=frozenset((*ends, *self.rules.ends)),
            ),
            submitted_s=submitted_s,
            lookup=PromptLookup(self.prompt_ids) if guesses else None,
            priority=request.priority,
            adapter=self.adapter,
            memory=self.memory,
            media=self.media,
            deadline_s=None if request.deadline_s is None else submitted_s + request.deadline_s,
        )

    def _row(self, choice: int) -> SamplerRow:
        sampling, manifest = self.task.sampling, self.model.manifest
        return SamplerRow(
            self.params,
            seed=seed_of(sampling.seed, choice),
            logit_bias=sampling.logit_bias,
            prompt_ids=self.prompt_ids,
            logprobs=sampling.logprobs,
            rules=self.rules,
            vocabulary=manifest.vocab_size,
            text_of=self.model.detokenizer.tokens.octets,
        )


def too_many(beams: int, rows: int) -> InvalidParameter:
    """A model has fewer rows than a request has beams."""
    return InvalidParameter(
        f"beams {beams} is above the {rows} rows of the model (engine.slots)", param="beams"
    )


def guide_of(
    task: Generate | Chat,
    prompt_ids: tuple[int, ...],
    *,
    prompts: PromptReader,
    structure: Structure,
) -> Guide | None:
    """What holds the answer to a prompt to its grammar, if anything does.

    Raises:
        InvalidParameter: it cannot be compiled; where it is one of tools, their schemas cannot.
    """
    constraint = prompts.constraint(task, prompt_ids)
    if constraint is None:
        return None
    try:
        return structure.guide(constraint, may_end=not task.sampling.ignore_eos)
    except InvalidParameter as error:
        if constraint == task.constraint or not isinstance(task, Chat):
            raise
        if not error.message.startswith(_told_of(constraint)):  # the model takes none
            raise InvalidParameter(f"tools: {error.message}", param="tools") from error
        _find_fault(task, structure)
        raise InvalidParameter(
            "tools: each schema can be held to, all of them together cannot; name fewer",
            param="tools",
        ) from error


def _find_fault(task: Chat, structure: Structure) -> None:
    """Compile by themselves the schemas that a grammar was written of, which cannot be compiled.

    Raises:
        InvalidParameter: naming the first that cannot; of the grammar it says nothing.
    """
    if task.constraint is not None:
        structure.guide(task.constraint)
    for number, schema in schemas_of(task):
        try:
            structure.guide(schema)
        except InvalidParameter as error:
            why = error.message.removeprefix(_told_of(schema))
            raise InvalidParameter(
                f"tools[{number}].function.parameters: {why}", param="tools"
            ) from error


def _told_of(constraint: Constraint) -> str:
    """How an error that tells why a constraint cannot be compiled begins."""
    return f"constraint ({constraint.kind}): "


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
