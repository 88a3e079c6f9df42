"""Queries and commands as methods of a client with an event loop."""

from __future__ import annotations

from abc import ABC, abstractmethod

from nsedge import api
from nsedge.api.prompts import check_tokens
from nsedge.ipc import messages as wire
from nsedge.ipc import queries
from nsedge.ipc.requests import read_prompt_of


class Querying(ABC):
    """Queries and commands, a method each. All raise ConnectionLost, or what the daemon answers."""

    async def models(self) -> tuple[api.ModelInfo, ...]:
        """Every model served there. Raises ConnectionLost, or what the daemon answers."""
        reply = await self._ask(wire.ModelsQuery(id=self.new_id()))
        return reply.models or ()

    async def health(self) -> api.Health:
        """Whether requests are taken. Raises ConnectionLost, or what the daemon answers."""
        reply = await self._ask(wire.HealthQuery(id=self.new_id()))
        return queries.present(reply.health)

    async def stats(self) -> api.Stats:
        """Counters and gauges. Raises ConnectionLost, or what the daemon answers."""
        reply = await self._ask(wire.StatsQuery(id=self.new_id()))
        return queries.present(reply.stats)

    async def load(self, wish: api.LoadWish) -> api.LoadResult:
        """Have a model in memory. Raises ConnectionLost, or what the daemon answers."""
        wish.check()
        reply = await self._ask(queries.load_of(wish, self.new_id()))
        return queries.present(reply.loaded)

    async def unload(
        self, model: str | None, *, drain_s: float | None = None
    ) -> tuple[api.ModelInfo, ...]:
        """Let a model leave memory, all where None; those that left. Raises ConnectionLost, or
        what the daemon answers."""
        reply = await self._ask(wire.Unload(id=self.new_id(), model=model, drain_s=drain_s))
        return reply.models or ()

    async def reload(self, model: str) -> api.ModelInfo:
        """Have a bundle read anew. Raises ConnectionLost, or what the daemon answers."""
        reply = await self._ask(wire.Reload(id=self.new_id(), model=model))
        return queries.present(reply.models)[0]

    async def alias(self, alias: str, model: str | None) -> api.AliasResult:
        """Give a model a further name, or take it away where None. Raises ConnectionLost, or what
        the daemon answers."""
        reply = await self._ask(wire.Alias(id=self.new_id(), alias=alias, model=model))
        named = next(iter(reply.models or ()), None)
        return api.AliasResult(model=named, unkept=reply.unkept)

    async def usage(self) -> api.UsageReport:
        """How models have been used. Raises ConnectionLost, or what the daemon answers."""
        reply = await self._ask(wire.UsageQuery(id=self.new_id()))
        return queries.present(reply.usage)

    async def read_prompt(self, question: api.PromptQuestion) -> api.PromptReading:
        """A prompt as its model would read it. Raises ConnectionLost, or what the daemon
        answers."""
        question.check()
        label = self.new_id()
        reply = await self._ask(read_prompt_of(question, label))
        return queries.present(reply.prompt)

    async def detokenize(self, model: str, token_ids: tuple[int, ...]) -> str:
        """The text of some tokens. Raises ConnectionLost, or what the daemon answers."""
        check_tokens(token_ids)
        query = wire.Detokenize(id=self.new_id(), model=model, token_ids=token_ids)
        return queries.present((await self._ask(query)).text)

    async def describe(self, model: str) -> api.ModelCard:
        """The card of a model, from its package. Raises ConnectionLost, or what the daemon
        answers."""
        reply = await self._ask(wire.Describe(id=self.new_id(), model=model))
        return queries.present(reply.card)

    @abstractmethod
    def new_id(self) -> str:
        """An id that is not in use."""

    @abstractmethod
    async def _ask(self, query: wire.Query) -> wire.Reply:
        """Send a query; its reply, which is no error."""
