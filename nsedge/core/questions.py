"""Questions about prompts and models, which have nothing written: a model is held while its
tokenizer works, on the reader's thread."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, TypeVar

import msgspec

from nsedge.api import Chat, ModelCard, PromptQuestion, PromptReading
from nsedge.api.prompts import check_tokens
from nsedge.bundle.adapter import AdapterManifest
from nsedge.bundle.files import MANIFEST_FILE
from nsedge.core.intake import Intake
from nsedge.errors import BundleInvalid, NsedgeError, UnsupportedTask
from nsedge.runtime.hosting.hosted import Prompts
from nsedge.runtime.residency.entries import Entry

T = TypeVar("T")


class Questions:
    """Answers what is asked of models beside requests."""

    def __init__(
        self,
        *,
        intake: Intake,
        reader: Executor,
        media_reader: Executor,
        find: Callable[[str], Entry],
    ) -> None:
        """intake: gives out models, loaded where need be. media_reader: reads prompts with media.
        find: the entry of a name; raises UnknownModel."""
        self._intake = intake
        self._reader = reader
        self._media_reader = media_reader
        self._find = find

    async def read_prompt(self, question: PromptQuestion) -> PromptReading:
        """A prompt as its model reads it.

        Raises:
            NsedgeError: there is no such model, it cannot be loaded, or it refuses the prompt.
        """
        question.check()
        question = replace(question, task=await self._intake.joined(question.model, question.task))

        def read(prompts: Prompts) -> PromptReading:
            found = prompts.reading(
                question.task,
                add_special=question.add_special,
                parse_special=question.parse_special,
            )
            if not question.with_pieces:
                return found
            return replace(found, pieces=prompts.pieces(found.token_ids))

        task = question.task
        has_media = isinstance(task, Chat) and any(message.media for message in task.messages)
        reader = self._media_reader if has_media else self._reader
        return await self._ask(question.model, read, reader)

    async def detokenize(self, model: str, token_ids: tuple[int, ...]) -> str:
        """The text of some tokens. Raises as `read_prompt`."""
        check_tokens(token_ids)
        return await self._ask(model, lambda prompts: prompts.text_of(token_ids), self._reader)

    async def describe(self, model: str) -> ModelCard:
        """What is known of a model from its package.

        Raises:
            UnknownModel: there is none of that name.
            BundleInvalid: its package cannot be read.
        """
        entry = self._find(model)
        base = entry if entry.base is None else self._find(entry.base)
        return await asyncio.to_thread(card_of, entry, base)

    async def _ask(self, model: str, call: Callable[[Prompts], T], reader: Executor) -> T:
        holder = _Holder(asyncio.get_running_loop().create_future())
        async with self._intake.holding(model, holder) as hosted:
            prompts = hosted.prompt_reader()
            if prompts is None:
                raise UnsupportedTask(f"{model} reads no prompts", param="model")
            loop = asyncio.get_running_loop()
            answer = loop.run_in_executor(reader, call, prompts)
            waited: set[asyncio.Future[Any]] = {answer, holder.broken}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                holder.broken.result()
            return await answer


class _Holder:
    """A question as a user of its model."""

    def __init__(self, broken: asyncio.Future[None]) -> None:
        self.broken = broken

    def break_off(self, error: NsedgeError) -> None:
        """The model has to leave."""
        if not self.broken.done():
            self.broken.set_exception(error)
            self.broken.exception()  # an answer that comes first needs no other


def card_of(entry: Entry, base: Entry) -> ModelCard:
    """What the package of `entry` says, and of an adapter that of its `base`; reads small files.

    Raises:
        BundleInvalid: one cannot be read.
    """
    manifest, own = base.manifest, entry.manifest
    if own is None or manifest is None or isinstance(manifest, AdapterManifest):
        raise BundleInvalid(f"{entry.name} cannot be read") from (entry.error or base.error)
    template = getattr(manifest, "chat_template", None)
    defaults = getattr(manifest, "generation_defaults", None)
    try:
        digest = hashlib.sha256((entry.path / MANIFEST_FILE).read_bytes()).hexdigest()
        text = None if template is None else (base.path / template).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BundleInvalid(f"{entry.name} cannot be read: {error}") from error
    return ModelCard(
        name=entry.name,
        kind=own.kind,
        architecture=manifest.provenance.architecture,
        parameters=manifest.provenance.parameters,
        source=own.provenance.source,
        licence=manifest.provenance.licence,
        bytes=sum(file.bytes for file in own.files.values()),
        sha256=digest,
        context_tokens=own.context_length,
        vocab_size=manifest.vocab_size,
        schemes=tuple(dict.fromkeys(variant.scheme for variant in manifest.variants)),
        bos_token=manifest.tokenizer.bos_token,
        eos_token=manifest.tokenizer.eos_token,
        chat_template=text,
        defaults={} if defaults is None else msgspec.structs.asdict(defaults),
    )
