"""What a process leaves out while it imports, and puts back."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest

from nsedge.cli.starting import importing


@pytest.fixture(autouse=True)
def thawed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS")
    yield
    gc.unfreeze()
    gc.enable()


def test_nothing_is_collected_meanwhile_and_what_is_there_is_never_looked_at_again() -> None:
    gc.unfreeze()
    with importing():
        assert not gc.isenabled()
        assert gc.get_freeze_count() == 0
    assert gc.isenabled()
    assert gc.get_freeze_count() > 1000


def test_a_collector_that_was_off_stays_off_and_an_import_that_fails_changes_nothing() -> None:
    gc.disable()
    with pytest.raises(ModuleNotFoundError), importing():
        raise ModuleNotFoundError
    assert not gc.isenabled()


def test_products_get_one_thread_unless_somebody_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with importing():
        assert os.environ["OPENBLAS_NUM_THREADS"] == "1"
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "8")
    with importing():
        assert os.environ["OPENBLAS_NUM_THREADS"] == "8"
