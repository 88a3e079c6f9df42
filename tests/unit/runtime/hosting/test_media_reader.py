"""Where inputs with pictures or sound are read."""

from __future__ import annotations

import numpy as np
import pytest

from nsedge.api import Media
from nsedge.api.media import RAW_PICTURE
from nsedge.bundle.pictures import PictureSteps, Resize
from nsedge.runtime.hosting import media_reader
from nsedge.runtime.hosting.media_reader import MediaReader
from nsedge.runtime.machine.arbiter import Arbiter
from nsedge.runtime.vision.reader import PictureReader
from tests.ipc import PATIENCE_S

STEPS = PictureSteps(resize=Resize(height=2, width=2, filter="box"), rescale=1 / 255)
FRAME = Media(type=RAW_PICTURE, data=b"\x07" * 48, shape=(4, 4, 3), dtype="uint8")


def test_its_thread_has_pictures_read_in_a_process_that_ends_with_it() -> None:
    reader, pictures = MediaReader(Arbiter(), threads=0), PictureReader(STEPS, max_pixels=100)
    read = reader.submit(pictures.read, FRAME).result(PATIENCE_S)
    assert np.array_equal(read, np.full((3, 2, 2), 7, np.uint8))
    child = reader._pictures._child
    assert child is not None
    reader.shutdown()
    assert child._process.poll() is not None


@pytest.mark.parametrize(("threads", "takes_turns"), [(0, True), (3, False), (4, True)])
def test_it_takes_turns_where_models_use_every_core(
    monkeypatch: pytest.MonkeyPatch, threads: int, takes_turns: bool
) -> None:
    monkeypatch.setattr(media_reader, "usable_cores", lambda: 4)
    reader = MediaReader(Arbiter(), threads=threads)
    assert (reader._pictures._seat is not None) == takes_turns
    reader.shutdown()
