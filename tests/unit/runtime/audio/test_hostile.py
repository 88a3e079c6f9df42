"""Sound files that are almost right: each is read as far as it can be, or refused as media."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest

from nsedge.errors import InvalidMedia
from nsedge.runtime.audio.sound import Sound
from tests.unit.runtime.audio.files import tone, written

FORMS = ("WAV", "FLAC", "OGG", "MP3", "AIFF", "CAF", "W64")
LIES = (0, 1, 2, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
"""Numbers that a header may claim."""


def almost(data: bytes, chance: random.Random) -> bytes:
    """A file with bytes changed, taken away or put in, most of them in its head."""
    made = bytearray(data)
    for _ in range(chance.randrange(1, 6)):
        place = chance.randrange(min(len(made), chance.choice((48, 48, len(made)))))
        match chance.randrange(5):
            case 0:
                made[place] = chance.randrange(256)
            case 1:
                made[place : place + 4] = struct.pack("<I", chance.choice(LIES))
            case 2:
                made[place : place + 2] = struct.pack("<H", chance.choice(LIES) & 0xFFFF)
            case 3:
                made[place:place] = chance.randbytes(chance.randrange(1, 40))
            case _:
                del made[place : place + chance.randrange(1, 40)]
        if len(made) < 2:
            break
    if chance.random() < 0.2:
        del made[chance.randrange(1, len(made) + 1) :]
    return bytes(made)


@pytest.mark.parametrize("form", FORMS)
def test_it_is_read_or_refused(form: str) -> None:
    rate = 24_000
    data = written(tone(0.3, rate=rate, channels=2), rate=rate, form=form)
    chance, refused, read = random.Random(form), 0, 0
    for _ in range(150):
        try:
            blocks = list(Sound(almost(data, chance)).blocks())
        except InvalidMedia:
            refused += 1
            continue
        read += 1
        samples = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
        assert samples.dtype == np.float32
        assert np.isfinite(samples).all()
    assert refused + read == 150
    assert refused
