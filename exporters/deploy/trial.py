"""A model's golden prompts, asked of a daemon by the road that every request takes.

A token counts as agreed where the daemon finds it most probable after the recorded ones before it,
as in `nsedge.runtime.hosting.golden`. Where it chooses another, the prompt is asked again with the
recorded tokens up to there as text, since all that follows another token is another text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tokenizers import Tokenizer

from nsedge.api import Delta, Failed, ModelInfo, Priority, Sampling
from nsedge.bundle.causal_lm import GoldenPrompt
from nsedge.bundle.manifest import TextBundle
from nsedge.errors import BundleInvalid, NsedgeError
from nsedge.ipc.client import Client, Events
from nsedge.runtime.hosting.golden import Agreement, judge

PATIENCE_S = 300.0
"""What the daemon may take for a prompt, busy as it may be."""


@dataclass(kw_only=True)
class Asked:
    """A golden prompt, how far it has been compared, and what was found."""

    prompt: GoldenPrompt
    at: int = 0
    hits: list[bool] = field(default_factory=list)

    @property
    def left(self) -> tuple[int, ...]:
        """Recorded tokens that have not been compared."""
        return self.prompt.continuation_ids[self.at :]

    def compare(self, answered: Sequence[int]) -> None:
        """Count the tokens up to and with the first that is another."""
        for recorded, token in zip(self.left, answered, strict=False):
            self.at += 1
            self.hits.append(token == recorded)
            if token != recorded:
                return

    def text(self, tokenizer: Tokenizer) -> str | None:
        """What to ask next: tokens after which the text cannot be told are passed over. None at
        the end."""
        while self.left:
            if self.at == 0:
                return self.prompt.text
            known = [*self.prompt.prompt_ids, *self.prompt.continuation_ids[: self.at]]
            text: str = tokenizer.decode(known, skip_special_tokens=False)
            if tokenizer.encode(text, add_special_tokens=False).ids == known:
                return text
            self.at += 1
        return None


def try_out(client: Client, bundle: TextBundle, info: ModelInfo) -> Agreement:
    """Have the daemon's model, which `info` tells of, continue the golden prompts of `bundle`.

    Raises:
        BundleInvalid: too few tokens agree, or none could be compared.
        NsedgeError: a prompt was not answered.
    """
    variant = next(one for one in bundle.manifest.variants if one.name == info.variant)
    tokenizer = Tokenizer.from_file(str(bundle.file(bundle.manifest.tokenizer.file)))
    golden = bundle.golden("generate", GoldenPrompt)
    asked = [
        Asked(prompt=prompt)
        for prompt in golden
        if len(prompt.prompt_ids) + len(prompt.continuation_ids) <= info.context_tokens
    ]
    while True:
        questions = [(one, text) for one in asked if (text := one.text(tokenizer)) is not None]
        if not questions:
            break
        answers = [_ask(client, info.name, text, len(one.left)) for one, text in questions]
        for (one, _), answer in zip(questions, answers, strict=True):
            one.compare(_tokens(answer))
    hits = [hit for one in asked for hit in one.hits]
    if not hits:
        raise BundleInvalid(
            f"none of {len(golden)} golden prompts fits {info.name}'s {info.context_tokens} tokens"
            " of context here"
        )
    found = Agreement(tokens=len(hits), agreed=sum(hits))
    judge(found, variant)
    return found


def _ask(client: Client, model: str, text: str, tokens: int) -> Events:
    sampling = Sampling(
        temperature=0.0,
        repetition_penalty=1.0,
        presence_penalty=0.0,
        frequency_penalty=0.0,
        max_tokens=tokens,
        ignore_eos=True,
    )
    return client.generate(
        model, text, sampling=sampling, priority=Priority.INTERACTIVE, deadline_s=PATIENCE_S
    )


def _tokens(answer: Events) -> list[int]:
    """The ids that were answered.

    Raises:
        NsedgeError: it failed.
    """
    ids: list[int] = []
    for event in answer:
        if isinstance(event, Delta):
            ids += event.token_ids
        elif isinstance(event, Failed):
            raise NsedgeError(f"a golden prompt was not answered: {event.message}")
    if not ids:
        raise NsedgeError("a golden prompt was answered with nothing")
    return ids
