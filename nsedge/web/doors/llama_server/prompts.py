"""llama-server's routes that write nothing: tokens of a text, text of tokens, and what is known of
a model."""

from __future__ import annotations

import msgspec
from aiohttp import web

from nsedge.api import Generate, PromptQuestion
from nsedge.security.keyring import Scope
from nsedge.version import VERSION
from nsedge.web.access import needs
from nsedge.web.answering import ANSWERING
from nsedge.web.bodies import (
    Link,
    ModelName,
    TokenId,
    gives,
    json_answer,
    read_json,
    read_query,
    takes,
    takes_query,
)
from nsedge.web.doors.llama_server.shapes import (
    DetokenizeAnswer,
    Modalities,
    Props,
    Settings,
    TokenizeAnswer,
    TokenPiece,
)
from nsedge.web.other_fields import OtherFields
from nsedge.web.request_fields import check_length


class TokenizeBody(msgspec.Struct, kw_only=True):
    """`POST /tokenize`."""

    content: str
    model: ModelName | None = None
    add_special: bool | None = None
    parse_special: bool | None = None
    with_pieces: bool | None = None


class DetokenizeBody(msgspec.Struct, kw_only=True):
    """`POST /detokenize`."""

    tokens: list[TokenId]
    model: ModelName | None = None


class ModelQuery(msgspec.Struct, kw_only=True):
    """`?model=`; without it, the model that a request without a name gets."""

    model: ModelName | None = None


_OTHERS = OtherFields()
_BACK = Link(name="back", path="/detokenize", body={"tokens": "/tokens"})


@needs(Scope.INFER)
@takes(TokenizeBody, _OTHERS)
@gives(TokenizeAnswer, links=(_BACK,))
async def tokenize(http: web.Request) -> web.Response:
    """`POST /tokenize`."""
    answering = http.app[ANSWERING]
    body = await read_json(http, TokenizeBody, _OTHERS)
    check_length(len(body.content), answering.limits, "content")
    model = await answering.model(body.model)
    read = await answering.service.read_prompt(
        PromptQuestion(
            model=model.name,
            task=Generate(text=body.content),
            add_special=bool(body.add_special),
            parse_special=body.parse_special is not False,
            with_pieces=bool(body.with_pieces),
        )
    )
    if not body.with_pieces:
        return json_answer(TokenizeAnswer(tokens=list(read.token_ids)))
    told = zip(read.token_ids, map(_piece, read.pieces), strict=True)
    pieces = [TokenPiece(id=token_id, piece=piece) for token_id, piece in told]
    return json_answer(TokenizeAnswer(tokens=[*pieces]))


def _piece(octets: bytes) -> str | list[int]:
    """What a token adds to a text: as text, or as bytes where they are none by themselves."""
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return list(octets)


@needs(Scope.INFER)
@takes(DetokenizeBody, _OTHERS)
@gives(DetokenizeAnswer)
async def detokenize(http: web.Request) -> web.Response:
    """`POST /detokenize`."""
    answering = http.app[ANSWERING]
    body = await read_json(http, DetokenizeBody, _OTHERS)
    model = await answering.model(body.model)
    text = await answering.service.detokenize(model.name, tuple(body.tokens))
    return json_answer(DetokenizeAnswer(content=text))


@needs(Scope.READ)
@takes_query(ModelQuery)
@gives(Props)
async def props(http: web.Request) -> web.Response:
    """`GET /props`: of the model `?model=`, or of the one that a request without a name gets."""
    answering = http.app[ANSWERING]
    model = await answering.model(read_query(http, ModelQuery).model)
    card = await answering.ask(answering.service.describe(model.name))
    return json_answer(
        Props(
            default_generation_settings=Settings(n_ctx=model.context_tokens, params=card.defaults),
            total_slots=model.slots,
            model_alias=model.name,
            model_path=card.source,
            modalities=Modalities(vision=False, audio=False),
            chat_template=card.chat_template or "",
            bos_token=card.bos_token or "",
            eos_token=card.eos_token or "",
            build_info=f"nsedge {VERSION}",
            is_sleeping=False,
        )
    )


ROUTES = (
    web.post("/tokenize", tokenize),
    web.post("/detokenize", detokenize),
    web.get("/props", props),
)
