"""Inputs that a request gives several of, and what is asked of each."""

from __future__ import annotations

from collections.abc import Sequence

from nsedge.api.bounds import within
from nsedge.api.media import Media
from nsedge.errors import InvalidParameter

MAX_INPUTS = 2048
"""Texts that one request may give."""
MAX_PICTURES = 256
"""Media among them."""
MAX_TOKEN_ID = 2**31 - 1
Tokens = tuple[int, ...]


def check_count(count: int, param: str = "inputs") -> None:
    """Raises InvalidParameter for no inputs, or too many."""
    within(f"the number of {param}", count, 1, MAX_INPUTS, param=param)


def check_texts(texts: Sequence[str], param: str = "inputs") -> None:
    """Raises InvalidParameter for no texts, too many, or an empty one, which it names."""
    check_count(len(texts), param)
    for number, text in enumerate(texts):
        if not text:
            raise InvalidParameter(f"{param}[{number}] is empty", param=param)


def check_media(inputs: Sequence[object]) -> None:
    """Raises InvalidParameter for too many media among `inputs`, or one that is none, which it
    names."""
    media = [(number, one) for number, one in enumerate(inputs) if isinstance(one, Media)]
    within("the number of pictures", len(media), 0, MAX_PICTURES, param="inputs")
    for number, one in media:
        try:
            one.check()
        except InvalidParameter as error:
            raise InvalidParameter(f"input {number}: {error.message}", param="inputs") from error
