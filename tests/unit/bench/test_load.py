"""The load: prompts that share no beginning, and gaps told apart by what disturbed them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from bench.doors import Trace
from bench.peers.building import Builder, BuildFailed, command
from bench.scenarios import Arrival, gaps_touching, gaps_within
from bench.workload import Writer
from exporters.cache import Cache
from exporters.progress import Progress


def test_gaps_lie_within_a_window_or_touch_it() -> None:
    traces = [Trace(0.0, [1.0, 2.0, 3.0, 5.0, 6.0, 9.0])]
    assert gaps_within(traces, (1.0, 3.0)) == [1.0, 1.0]
    assert gaps_touching(traces, (4.0, 4.5)) == [2.0]
    assert gaps_touching(traces, (5.5, 7.0)) == [1.0, 3.0]


def test_an_arrival_is_held_to_the_quiet_around_it() -> None:
    arrival = Arrival(disturbed_s=[0.03] * 200, around_s=[0.01, 0.02, 0.09], first_s=1.0)
    assert arrival.stretch == pytest.approx(1.5)


def test_a_trace_tells_first_token_and_gaps() -> None:
    trace = Trace(1.0, [1.5, 1.75, 2.75])
    assert trace.first_s == 0.5
    assert trace.gaps_s == [0.25, 1.0]


def test_a_failed_command_says_why() -> None:
    with pytest.raises(BuildFailed, match=r"ended with 3:\nno such luck"):
        command([sys.executable, "-c", "print('no such luck'); raise SystemExit(3)"])
    assert command([sys.executable, "-c", "print('well')"]) == "well\n"


def test_what_is_kept_is_not_made_again(tmp_path: Path) -> None:
    builder = Builder(Cache(tmp_path, Progress(None)), "this machine")
    inputs = {"version": 1}
    assert builder.kept("thing", inputs) is None

    def make(folder: Path) -> None:
        (folder / "made").write_text("once")

    made = builder.get("thing", inputs, make)
    assert builder.kept("thing", inputs) == made
    assert builder.kept("thing", {"version": 2}) is None
    assert builder.get("thing", inputs, lambda _: pytest.fail("made again")) == made


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    builder = Builder(Cache(tmp_path, Progress(None)), "this machine")
    with pytest.raises(BuildFailed):
        builder.get("thing", {}, lambda _: _fail())
    assert builder.kept("thing", {}) is None


def _fail() -> None:
    command([sys.executable, "-c", "raise SystemExit(1)"])


def words(*beginnings: str) -> Tokenizer:
    """A token a word: these, and one for all others."""
    vocabulary = {word: number for number, word in enumerate(("[UNK]", *beginnings))}
    made = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    return made


def test_prompts_share_no_first_token() -> None:
    writer = Writer(words("one", "two", "six", "ten", "fig"))
    texts = writer.prompts(count=3, tokens=40) + writer.prompts(count=2, tokens=7)
    assert len({text.split()[0] for text in texts}) == 5
    assert [writer.length(text) for text in texts] == [40, 40, 40, 7, 7]
    with pytest.raises(ValueError, match="no word left"):
        writer.prompts(count=1, tokens=7)
