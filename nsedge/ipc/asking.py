"""The tasks as methods, of a client with an event loop and of one without."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar, Unpack, cast

from nsedge import api
from nsedge.api.imagine import ImagineFields
from nsedge.api.labels import Text
from nsedge.api.listen import ListenFields
from nsedge.api.scheduling import SchedulingFields
from nsedge.api.tasks import ChatFields, TranscribeFields

SOUND = "audio/unknown"
PICTURE = "image/unknown"
"""The types of sound, and of a picture, that come as bytes: what they are, is read from them."""
S = TypeVar("S")
"""An iterator over the events of a request."""


class Asking(ABC, Generic[S]):
    """The tasks, a method each: all give the request's events, and whoever leaves their `with` or
    loop cancels it.

    `request_id` is the caller's own label for it, None is one that is free. What else can be said
    of every request is `nsedge.api.Scheduling`.
    """

    def generate(
        self,
        model: str,
        text: str,
        *,
        sampling: api.Sampling | None = None,
        constraint: api.Constraint | None = None,
        request_id: str | None = None,
        **scheduling: Unpack[SchedulingFields],
    ) -> S:
        """The events of continuing `text`, held to `constraint`."""
        wanted = sampling or api.Sampling()
        task = api.Generate(text=text, sampling=wanted, constraint=constraint)
        return self._ask_for(task, model, request_id, scheduling)

    def chat(
        self,
        model: str,
        messages: Sequence[api.Message],
        *,
        sampling: api.Sampling | None = None,
        request_id: str | None = None,
        **more: Unpack[ChatFields],
    ) -> S:
        """The events of the assistant's next turn; `more` is what else `Chat` and `Scheduling`
        have."""
        asked: dict[str, Any] = dict(more)
        scheduling = {
            name: asked.pop(name) for name in SchedulingFields.__annotations__ if name in asked
        }
        asked |= {name: tuple(asked.get(name, ())) for name in ("tools", "documents")}
        task = api.Chat(messages=tuple(messages), sampling=sampling or api.Sampling(), **asked)
        return self._ask_for(task, model, request_id, cast(SchedulingFields, scheduling))

    def embed(
        self,
        model: str,
        inputs: str | api.Media | Sequence[str | api.Media | Sequence[int]],
        *,
        dimensions: int | None = None,
        truncate: bool = False,
        request_id: str | None = None,
        **scheduling: Unpack[SchedulingFields],
    ) -> S:
        """The events of a vector for each of `inputs`: texts, token ids or media. `embeddings()` of
        what this returns gathers them into one array."""
        given = [inputs] if isinstance(inputs, str | api.Media) else inputs
        whole = tuple(one if isinstance(one, str | api.Media) else tuple(one) for one in given)
        task = api.Embed(inputs=whole, dimensions=dimensions, truncate=truncate)
        return self._ask_for(task, model, request_id, scheduling)

    def transcribe(
        self,
        model: str,
        media: api.Media | bytes,
        *,
        request_id: str | None = None,
        **more: Unpack[TranscribeFields],
    ) -> S:
        """The events of what is said in a recording; `more` is what else `Transcribe` and
        `Scheduling` have."""
        asked: dict[str, Any] = dict(more)
        scheduling = {
            name: asked.pop(name) for name in SchedulingFields.__annotations__ if name in asked
        }
        sound = media if isinstance(media, api.Media) else api.Media(type=SOUND, data=media)
        task = api.Transcribe(media=sound, **asked)
        return self._ask_for(task, model, request_id, cast(SchedulingFields, scheduling))

    def listen(
        self,
        model: str,
        feed: api.Feed,
        *,
        request_id: str | None = None,
        **more: Unpack[ListenFields],
    ) -> S:
        """The events of what is said in the sound that `feed` brings, while it comes; `more` is
        what else `Listen` and `Scheduling` have."""
        asked: dict[str, Any] = dict(more)
        scheduling = {
            name: asked.pop(name) for name in SchedulingFields.__annotations__ if name in asked
        }
        task = api.Listen(feed=feed, **asked)
        return self._ask_for(task, model, request_id, cast(SchedulingFields, scheduling))

    def caption(
        self,
        model: str,
        picture: api.Media | bytes,
        *,
        prompt: str = "",
        sampling: api.Sampling | None = None,
        constraint: api.Constraint | None = None,
        request_id: str | None = None,
        **scheduling: Unpack[SchedulingFields],
    ) -> S:
        """The events of what is to be seen in a picture, which goes on from `prompt` and is held to
        `constraint`."""
        media = picture if isinstance(picture, api.Media) else api.Media(type=PICTURE, data=picture)
        task = api.Caption(
            media=media,
            prompt=prompt,
            sampling=sampling or api.Sampling(),
            constraint=constraint,
        )
        return self._ask_for(task, model, request_id, scheduling)

    def imagine(
        self,
        model: str,
        prompt: str,
        *,
        request_id: str | None = None,
        **more: Unpack[ImagineFields],
    ) -> S:
        """The events of pictures of `prompt`; `more` is what else `Imagine` and `Scheduling` have.
        `collected().pictures` of what this returns has them all."""
        asked: dict[str, Any] = dict(more)
        scheduling = {
            name: asked.pop(name) for name in SchedulingFields.__annotations__ if name in asked
        }
        task = api.Imagine(prompt=prompt, **asked)
        return self._ask_for(task, model, request_id, cast(SchedulingFields, scheduling))

    def classify(
        self,
        model: str,
        inputs: str | api.Media | Sequence[Text | api.Media],
        *,
        top_k: int | None = None,
        activation: api.Activation | None = None,
        aggregation: api.Aggregation | None = None,
        truncate: bool = False,
        labels: Sequence[str] = (),
        prompt: str | None = None,
        request_id: str | None = None,
        **scheduling: Unpack[SchedulingFields],
    ) -> S:
        """The events of labels for each of `inputs`, texts, pairs of texts or media, or of the
        spans in them; `collected().labels` of what this returns has them all."""
        task = api.Classify(
            inputs=(inputs,) if isinstance(inputs, str | api.Media) else tuple(inputs),
            top_k=top_k,
            activation=activation,
            aggregation=aggregation,
            truncate=truncate,
            labels=tuple(labels),
            prompt=prompt,
        )
        return self._ask_for(task, model, request_id, scheduling)

    def fill(
        self,
        model: str,
        inputs: str | Sequence[str],
        *,
        top_k: int = 5,
        request_id: str | None = None,
        **scheduling: Unpack[SchedulingFields],
    ) -> S:
        """The events of tokens for the masks in each of `inputs`; `collected().masks` of what this
        returns has them all."""
        given = (inputs,) if isinstance(inputs, str) else tuple(inputs)
        return self._ask_for(api.Fill(inputs=given, top_k=top_k), model, request_id, scheduling)

    def score(
        self,
        model: str,
        query: str,
        documents: Sequence[str],
        *,
        truncate: bool = False,
        request_id: str | None = None,
        **scheduling: Unpack[SchedulingFields],
    ) -> S:
        """The events of how well each of `documents` answers `query`; `collected().scores` of what
        this returns has them all."""
        task = api.Score(query=query, documents=tuple(documents), truncate=truncate)
        return self._ask_for(task, model, request_id, scheduling)

    def _ask_for(
        self, task: api.Task, model: str, request_id: str | None, scheduling: SchedulingFields
    ) -> S:
        label = self.new_id() if request_id is None else request_id
        request = api.Request(request_id=label, model=model, task=task, **scheduling)
        return self._stream(request)

    @abstractmethod
    def new_id(self) -> str:
        """A request id that is not in use."""

    @abstractmethod
    def _stream(self, request: api.Request) -> S:
        """Send a request; its events."""
