"""How use is counted, kept over restarts, and foretold from."""

from __future__ import annotations

import errno
import json
import logging
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsedge.process.state_file import encode
from nsedge.runtime.machine.amounts import Amount
from nsedge.runtime.residency.habits import SAVE_EVERY_S, Habits
from nsedge.runtime.residency.prediction import PREDICTORS, ByPatterns, ByScore, ranked
from nsedge.runtime.residency.usage import History, priority_score
from nsedge.runtime.residency.usage_file import UsageFile
from tests.fakes import FakeClock

NINE = 9


def used(*names: str, hour: int = NINE, every_s: float = 60.0) -> History:
    history = History()
    for number, name in enumerate(names):
        history.began(name, now_s=number * every_s, hour=hour)
    return history


@pytest.mark.parametrize(
    ("count", "idle_s", "score"),
    [(10, 0.0, 10.0), (10, 1800.0, 5.0), (10, 3240.0, 1.0), (10, 10**6, 1.0), (4, -5.0, 4.0)],
)
def test_the_score_is_use_by_recency(count: int, idle_s: float, score: float) -> None:
    assert priority_score(count, idle_s) == pytest.approx(score)


def test_a_history_counts_times_hours_and_followers() -> None:
    history = used("a", "a", "b", "a", hour=13)
    history.ended("a", 2.5)
    record = history.models["a"]
    assert (record.count, record.total_s, record.last_used_s) == (3, 2.5, 180.0)
    assert record.hours[13] == 3
    assert record.followed_by == {"b": 1}
    assert history.models["b"].followed_by == {"a": 1}


def test_the_score_ranks_by_use_and_recency() -> None:
    history = used("often", "often", "often", "late")
    by_score = ByScore().likelihoods(history, now_s=180.0, hour=NINE)
    assert ranked(by_score) == ["often", "late"]
    history.models["often"].last_used_s = -7200.0
    by_score = ByScore().likelihoods(history, now_s=180.0, hour=NINE)
    assert ranked(by_score) == ["late", "often"]


def test_patterns_learn_what_follows_what() -> None:
    predictor, history = ByPatterns(), History()
    for number, name in enumerate(["plan", "write", "check"] * 20 + ["plan"]):
        predictor.learn(history, name, now_s=number * 60.0, hour=NINE)
        history.began(name, now_s=number * 60.0, hour=NINE)
    likely = predictor.likelihoods(history, now_s=61 * 60.0, hour=NINE)
    assert ranked(likely)[0] == "write"
    assert likely["write"] > 0.8
    assert history.weights["follower"] > 0.7


def test_patterns_learn_the_hours() -> None:
    predictor, history = ByPatterns(), History()
    now_s = 0.0
    for day in range(14):
        for hour in range(8, 20):
            name = ("mail" if day % 2 else "code") if hour < 14 else ("film" if day % 3 else "song")
            now_s = (day * 24 + hour) * 3600.0
            predictor.learn(history, name, now_s=now_s, hour=hour)
            history.began(name, now_s=now_s, hour=hour)
    morning = predictor.likelihoods(history, now_s=now_s + 12 * 3600.0, hour=8)
    assert set(ranked(morning)[:2]) == {"mail", "code"}


def test_a_new_model_and_a_repeated_one_teach_nothing() -> None:
    predictor, history = ByPatterns(), used("a", "b")
    for name in ("c", "b"):
        predictor.learn(history, name, now_s=300.0, hour=NINE)
        assert history.weights == {}


@given(st.lists(st.sampled_from("abcd"), max_size=40), st.sampled_from(sorted(PREDICTORS)))
def test_likelihoods_are_shares(names: list[str], kind: str) -> None:
    predictor, history = PREDICTORS[kind](), History()
    for number, name in enumerate(names):
        predictor.learn(history, name, now_s=number * 600.0, hour=number % 24)
        history.began(name, now_s=number * 600.0, hour=number % 24)
    likely = predictor.likelihoods(history, now_s=10**6, hour=3)
    assert set(likely) == set(names)
    assert all(share >= 0.0 for share in likely.values())
    assert sum(likely.values()) == pytest.approx(1.0 if names else 0.0)


def test_a_history_survives_a_restart(tmp_path: Path) -> None:
    file = UsageFile(tmp_path / "state" / "usage.json")
    history = used("a", "b", "a")
    history.weights = {"score": 0.5}
    assert file.write(encode(history)) is None
    assert file.read() == history
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["usage.json"]


def test_a_damaged_file_is_put_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "usage.json"
    path.write_text('{"version": 1, "models": {"a": {"count": -1}}}')
    assert UsageFile(path).read() == History()
    assert "damaged" in caplog.text
    assert path.with_suffix(".broken").is_file()
    assert not path.exists()


def test_a_full_disk_costs_the_statistics_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    file = UsageFile(tmp_path / "usage.json")
    file.write(encode(used("a")))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert file.write(encode(used("a", "b"))) == "No space left on device"
        assert file.write(encode(used("a", "b"))) == "No space left on device"
    assert caplog.text.count("not being kept") == 1
    assert file.read() == used("a"), "the last whole one stays"
    assert [path.name for path in tmp_path.iterdir()] == ["usage.json"]
    assert file.write(encode(used("a", "b"))) is None
    assert "kept again" in caplog.text


def test_without_a_path_nothing_is_kept() -> None:
    assert UsageFile(None).write(b"x") is None
    assert UsageFile(None).read() == History()


class Thread:
    """An executor that runs at once."""

    def __init__(self) -> None:
        self.ran = 0

    def submit(self, call, *arguments) -> None:
        self.ran += 1
        call(*arguments)


def test_habits_are_written_now_and_then(tmp_path: Path) -> None:
    path, clock, thread = tmp_path / "usage.json", FakeClock(), Thread()
    habits = Habits(file=UsageFile(path), now=clock, hour=lambda now_s: NINE)
    habits.began("a")
    habits.save_soon(thread)
    assert thread.ran == 0
    clock.advance(SAVE_EVERY_S)
    habits.save_soon(thread)
    habits.save_soon(thread)
    assert thread.ran == 1
    assert json.loads(path.read_text())["models"]["a"]["count"] == 1
    habits.ended("a", 3.0)
    habits.save()
    again = Habits(file=UsageFile(path), now=clock, hour=lambda now_s: NINE)
    report = again.report(preload_top=1, names=["a"])
    assert report.models["a"].total_s == 3.0


def test_what_could_not_be_written_is_told_and_written_later(tmp_path: Path) -> None:
    folder, clock, thread = tmp_path / "state", FakeClock(), Thread()
    folder.write_text("no directory")
    path = folder / "usage.json"
    habits = Habits(file=UsageFile(path), now=clock, hour=lambda now_s: NINE)
    assert habits.report(preload_top=1, names=[]).unkept is None
    habits.began("a")
    clock.advance(SAVE_EVERY_S)
    habits.save_soon(thread)
    assert habits.report(preload_top=1, names=[]).unkept == "File exists"
    folder.unlink()
    habits.save()
    assert json.loads(path.read_text())["models"]["a"]["count"] == 1
    assert habits.report(preload_top=1, names=[]).unkept is None


def test_a_report_recommends_what_there_is(tmp_path: Path) -> None:
    clock = FakeClock()
    habits = Habits(file=UsageFile(None), predictor="score", now=clock, hour=lambda now_s: NINE)
    for name in ("a", "b", "b", "gone", "gone", "gone"):
        habits.began(name)
    report = habits.report(preload_top=2, names=["a", "b", "never used"])
    assert [one.model for one in report.recommendations] == ["b", "a"]
    assert report.recommendations[0].priority_score == 2.0
    assert set(report.models) == {"a", "b", "gone"}
    assert (report.predictor, report.preload_top) == ("score", 2)


def test_what_is_unlikely_is_not_worth_a_guess() -> None:
    names = list("abcdefgh")
    by_kind = {}
    for kind in PREDICTORS:
        habits = Habits(file=UsageFile(None), predictor=kind, now=lambda: 0.0, hour=lambda now_s: 3)
        for name in names:
            habits.began(name)
        by_kind[kind] = habits.worthwhile(names, 2)
    assert by_kind == {"score": ["a", "b"], "patterns": []}


def test_a_footprint_is_true_of_one_bundle_and_one_setting(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    path = tmp_path / "usage.json"

    def habits(setting: str) -> Habits:
        return Habits(file=UsageFile(path), setting=setting)

    first = habits("16 slots")
    first.took("a", tmp_path, Amount(5, 7))
    first.save()
    assert habits("16 slots").expected("a", tmp_path) == Amount(5, 7)
    assert habits("8 slots").expected("a", tmp_path) is None
    os.utime(tmp_path / "manifest.json", ns=(1, 1))
    assert habits("16 slots").expected("a", tmp_path) is None
    assert first.expected("b", tmp_path) is None
