"""A stream on its way to its reader: batch after batch, to its end."""

from __future__ import annotations

import logging

from aiohttp import web

from nsedge.api import Failed
from nsedge.errors import NsedgeError
from nsedge.web.answer_stream import Batch, StreamEncoder, settled
from nsedge.web.choices import Choices
from nsedge.web.chunking import Chunker
from nsedge.web.errors import Refusal, Refused

log = logging.getLogger(__name__)


async def write_all(
    response: web.StreamResponse,
    choices: Choices,
    encoder: StreamEncoder,
    chunker: Chunker,
    batch: Batch,
) -> None:
    """Write `batch` and all that follows it, encoded; a reader that goes away ends it."""
    framing = encoder.framing
    try:
        while True:
            data = (
                encoder.encode(chunker.feed(batch)) if batch else framing.silence(choices.loading)
            )
            if encoder.ended:
                break
            if data:
                await response.write(data)
            choices.taken()
            batch = await choices.batch()
        await response.write_eof(data)
    except ConnectionError:
        log.debug("the client of a stream went away")
    except Exception:
        log.exception("a stream broke off")
        await response.write_eof(encoder.error(Refusal.of(NsedgeError("internal error"))))


def refuse_failed(batch: Batch) -> None:
    """Raises Refused for a batch in which a request failed."""
    for _, event in batch:
        event = settled(event)
        if isinstance(event, Failed):
            raise Refused(Refusal.of(event))


def cut_off(http: web.Request) -> None:
    """End the connection of a reader that takes nothing."""
    log.info("a reader took nothing for too long and was cut off")
    if http.transport is not None:
        http.transport.abort()
