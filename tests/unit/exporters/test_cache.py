"""Results are made once, appear whole or not at all, and go when nobody wants them."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import pytest

from exporters.cache import KEPT_S, Cache, cache_root, folder_digest, home, new_directory
from exporters.progress import Progress
from tests.fakes import FakeClock

INPUTS = {"model": "tiny", "code": "1"}


@pytest.fixture
def log() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(1_700_000_000.0)


@pytest.fixture
def cache(tmp_path: Path, log: io.StringIO, clock: FakeClock) -> Cache:
    return Cache(tmp_path / "cache", Progress(log), now=clock)


def write_one(folder: Path) -> None:
    (folder / "result").write_text("one")


def never(folder: Path) -> None:
    raise AssertionError("made again")


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_the_second_time_is_kept_from_the_first_and_says_so(cache: Cache, log: io.StringIO) -> None:
    first = cache.get("stage", INPUTS, title="Making", make=write_one)
    again = cache.get("stage", INPUTS, title="Making", make=never)
    assert again == first
    assert (again / "result").read_text() == "one"
    assert "Making: kept from before" in log.getvalue()


@pytest.mark.parametrize("changed", [{"code": "2"}, {"model": "other"}, {"scheme": "int8"}])
def test_other_inputs_make_another_result(cache: Cache, changed: dict[str, str]) -> None:
    first = cache.get("stage", INPUTS, title="Making", make=write_one)
    other = cache.get("stage", INPUTS | changed, title="Making", make=write_one)
    assert other != first


def test_a_failure_leaves_nothing_and_the_next_try_succeeds(cache: Cache) -> None:
    def fail(folder: Path) -> None:
        write_one(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        cache.get("stage", INPUTS, title="Making", make=fail)
    assert left(cache.root / "stage") == []
    assert (cache.get("stage", INPUTS, title="Making", make=write_one) / "result").is_file()


def test_who_wants_the_same_waits_for_it(cache: Cache) -> None:
    started, go = threading.Event(), threading.Event()

    def slow(folder: Path) -> None:
        started.set()
        assert go.wait(10)
        write_one(folder)

    found: list[Path] = []

    def second() -> None:
        found.append(cache.get("stage", INPUTS, title="Making", make=never))

    first = threading.Thread(
        target=cache.get, args=("stage", INPUTS), kwargs={"title": "Making", "make": slow}
    )
    first.start()
    assert started.wait(10)
    waiter = threading.Thread(target=second)
    waiter.start()
    assert found == []
    go.set()
    first.join(10)
    waiter.join(10)
    assert (found[0] / "result").read_text() == "one"


def test_what_nobody_used_for_a_month_goes(cache: Cache, clock: FakeClock) -> None:
    old = cache.get("stage", INPUTS, title="Making", make=write_one)
    used = cache.get("stage", INPUTS | {"code": "2"}, title="Making", make=write_one)
    clock.advance(KEPT_S - 1)
    cache.get("stage", INPUTS | {"code": "2"}, title="Making", make=never)
    assert old.is_dir()
    clock.advance(2)
    new = cache.get("stage", INPUTS | {"code": "3"}, title="Making", make=write_one)
    assert left(cache.root / "stage") == sorted([used.name, new.name])


def test_a_link_leads_to_its_result_until_that_is_gone(cache: Cache) -> None:
    target = cache.get("stage", INPUTS, title="Making", make=write_one)
    assert cache.follow("links", "name") is None
    cache.link("links", "name", target)
    assert cache.follow("links", "name") == target
    (target / "result").unlink()
    target.rmdir()
    assert cache.follow("links", "name") is None


def test_a_directory_takes_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    with new_directory(path) as building:
        write_one(building)
        assert not path.exists()
    assert (path / "result").read_text() == "one"
    assert left(tmp_path) == ["bundle"]


def test_others_may_read_what_is_in_it(tmp_path: Path) -> None:
    with new_directory(tmp_path / "made") as building:
        (building / "weights").touch(mode=0o600)
    assert (tmp_path / "made" / "weights").stat().st_mode & 0o777 == 0o644


def test_the_old_directory_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    with new_directory(path) as building:
        write_one(building)

    def break_off() -> None:
        with new_directory(path) as building:
            (building / "result").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert (path / "result").read_text() == "one"
    with new_directory(path) as building:
        (building / "result").write_text("two")
    assert (path / "result").read_text() == "two"
    assert left(tmp_path) == ["bundle"]


def test_a_folder_is_known_by_names_and_contents(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "a").write_text("1")
    digest = folder_digest(folder)
    (folder / "a").rename(folder / "b")
    renamed = folder_digest(folder)
    (folder / "b").write_text("2")
    assert len({digest, renamed, folder_digest(folder)}) == 3


def test_places_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NSEDGE_CACHE", "NSEDGE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/c")
    monkeypatch.setenv("XDG_DATA_HOME", "/d")
    assert (cache_root(), home()) == (Path("/c/nsedge"), Path("/d/nsedge"))
    monkeypatch.setenv("NSEDGE_CACHE", "/own/cache")
    monkeypatch.setenv("NSEDGE_HOME", "/own/home")
    assert (cache_root(), home()) == (Path("/own/cache"), Path("/own/home"))


class Watched(io.StringIO):
    """Tells when a line of a kind was written."""

    def __init__(self, word: str) -> None:
        super().__init__()
        self.seen = threading.Event()
        self._word = word

    def write(self, text: str) -> int:
        written = super().write(text)
        if self._word in text:
            self.seen.set()
        return written


def test_a_long_step_says_that_it_goes_on() -> None:
    clock, stream = FakeClock(), Watched("so far")
    with Progress(stream, beat_s=0.001, clock=clock).step("Exporting"):
        assert stream.seen.wait(10)
        clock.advance(41.5)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "Exporting ..."
    assert "Exporting: 0 s so far" in lines
    assert lines[-1] == "Exporting: done in 41.5 s"


def test_a_failed_step_is_not_called_done() -> None:
    stream = io.StringIO()

    def fail() -> None:
        with Progress(stream).step("Exporting"):
            raise ValueError

    with pytest.raises(ValueError):
        fail()
    assert stream.getvalue() == "Exporting ...\n"
