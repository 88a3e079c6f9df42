"""The whole stage: every row accounted for, the same split always, all files or none."""

from __future__ import annotations

import fcntl
import json
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporters.errors import ExportError
from exporters.finetune.dataset import Made, make_dataset
from exporters.finetune.examples import Example, read_examples, report_path, validation_path
from exporters.finetune.making import DatasetOrder
from exporters.finetune.report import Cause, DatasetReport, dataset_lines
from exporters.model.source import Source
from exporters.progress import Progress
from tests.unit.tiny_base import CHATML, CONTEXT, base_source

SILENT = Progress(None)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return base_source(tmp_path_factory.mktemp("base") / "tiny")


def pairs(count: int) -> list[dict[str, str]]:
    return [{"prompt": f"question {i}", "completion": f"answer {i}"} for i in range(count)]


def write(folder: Path, rows: list[Any], name: str = "data.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def make(base: Source, source: Path | tuple[Path, ...], **options: Any) -> Made:
    inputs = source if isinstance(source, tuple) else (source,)
    output = inputs[0].with_name("train.jsonl")
    return make_dataset(DatasetOrder(inputs=inputs, output=output, base=base, **options), SILENT)


def examples(path: Path) -> tuple[list[Example], list[Example]]:
    """Those to learn from, and those to validate with."""
    train = path.with_name("train.jsonl")
    return list(read_examples(train)), list(read_examples(validation_path(train)))


def asked(found: list[Example]) -> set[str]:
    return {example.messages[0].content for example in found}


def test_the_lines_are_what_training_reads(base: Source, tmp_path: Path) -> None:
    source = write(tmp_path, [{"prompt": "é?", "completion": "ü!"}])
    make(base, source, validation=0.0)
    (line,) = source.with_name("train.jsonl").read_text().splitlines()
    found = json.loads(line)
    begin = found["text"].index("ü!")
    assert found == {
        "row": 1,
        "messages": [{"role": "user", "content": "é?"}, {"role": "assistant", "content": "ü!"}],
        "text": found["text"],
        "learn": [[begin, begin + len("ü!<|im_end|>")]],
    }
    assert found["text"].endswith("<|im_start|>assistant\nü!<|im_end|>\n")


def test_a_row_stays_on_its_side_whatever_is_around_it(base: Source, tmp_path: Path) -> None:
    rows = pairs(200)
    source = write(tmp_path, rows[:150])
    make(base, source, validation=0.2)
    before = [asked(side) for side in examples(source)]
    assert 15 <= len(before[1]) <= 45
    random.Random(1).shuffle(rows)
    write(tmp_path, rows)
    make(base, source, validation=0.2)
    after = [asked(side) for side in examples(source)]
    assert before[0] < after[0]
    assert before[1] < after[1]
    make(base, source, validation=0.2, seed=1)
    assert asked(examples(source)[1]) != after[1]


def test_a_larger_share_keeps_the_smaller_one_within_it(base: Source, tmp_path: Path) -> None:
    source = write(tmp_path, pairs(100))
    make(base, source, validation=0.1)
    small = asked(examples(source)[1])
    make(base, source, validation=0.5)
    assert small < asked(examples(source)[1])


def test_duplicates_go_whatever_their_blanks_and_shape(base: Source, tmp_path: Path) -> None:
    first = write(
        tmp_path,
        [
            {"prompt": "caf\u00e9  au\nlait", "completion": "yes"},
            {"instruction": "cafe\u0301 au lait ", "output": " yes"},
            {"prompt": "Caf\u00e9 au lait", "completion": "yes"},
        ],
    )
    other = write(tmp_path, [{"prompt": "café au lait", "completion": "yes"}], "other.jsonl")
    report = make(base, (first, other), validation=0.0).report
    assert [example.row for example in examples(first)[0]] == [1, 3]
    assert [(each.file, each.row, each.reason) for each in report.dropped] == [
        (str(first), 2, "the same as row 1"),
        (str(other), 1, f"the same as row 1 of {first}"),
    ]


def test_too_long_rows_are_dropped_or_cut(base: Source, tmp_path: Path) -> None:
    rows = [
        {"prompt": "q", "completion": "a"},
        {"prompt": "q", "completion": "ü" * CONTEXT},
        {"prompt": "q" * CONTEXT, "completion": "a"},
    ]
    source = write(tmp_path, rows)
    report = make(base, source, validation=0.0).report
    assert [(each.row, each.cause) for each in report.dropped] == [
        (2, Cause.TOO_LONG),
        (3, Cause.TOO_LONG),
    ]
    assert f"tokens, more than {CONTEXT}" in report.dropped[0].reason
    report = make(base, source, validation=0.0, truncate=True, max_tokens=201).report
    assert [each.row for each in report.dropped] == [3]
    assert report.dropped[0].reason.endswith("and nothing to learn within them")
    cut = examples(source)[0][1]
    tokens = base.text_reader().encode(cut.text)
    assert len(tokens) in (200, 201)  # a letter of two bytes stands at the end
    assert cut.learn[0][1] == len(cut.text)
    assert set(cut.text[slice(*cut.learn[0])]) == {"ü"}
    assert report.truncated == 1
    assert report.lengths.longest == len(tokens)


def test_strict_fails_at_the_first_bad_row_and_writes_nothing(base: Source, tmp_path: Path) -> None:
    source = write(tmp_path, [*pairs(2), *pairs(1), {"x": 1}, *pairs(3)])
    with pytest.raises(ExportError, match=r"data.jsonl, row 4: no known shape"):
        make(base, source, strict=True)
    assert [path.name for path in tmp_path.iterdir()] == ["data.jsonl"]


def test_nothing_usable_is_an_error_with_the_first_reasons(base: Source, tmp_path: Path) -> None:
    source = write(tmp_path, [{"x": 1}, 2, None, "four"])
    with pytest.raises(ExportError) as caught:
        make(base, source)
    assert "none of 4 rows can be used" in str(caught.value)
    assert "row 1: no known shape (its keys: x)" in str(caught.value)
    assert "row 3: null" in str(caught.value)
    assert "row 4" not in str(caught.value)
    with pytest.raises(ExportError, match="no rows"):
        make(base, write(tmp_path, []))
    with pytest.raises(ExportError, match="fell to validation"):
        make(base, write(tmp_path, pairs(1)), validation=0.999999)


def test_a_second_run_does_nothing_and_a_change_does_all(base: Source, tmp_path: Path) -> None:
    source = write(tmp_path, pairs(30))
    first = make(base, source)
    assert not first.up_to_date
    again = make(base, source)
    assert again.up_to_date
    assert again.report == first.report
    assert not make(base, source, seed=3).up_to_date
    train = source.with_name("train.jsonl")
    train.write_bytes(train.read_bytes()[:-20])
    assert not make(base, source, seed=3).up_to_date
    write(tmp_path, pairs(31))
    assert not make(base, source, seed=3).up_to_date
    assert len(examples(source)[0]) + len(examples(source)[1]) == 31


def test_what_else_is_there_is_not_overwritten(base: Source, tmp_path: Path) -> None:
    own = write(tmp_path, pairs(5), "train.jsonl")
    with pytest.raises(ExportError, match="is an input"):
        make(base, own, replace=True)
    source = write(tmp_path, pairs(5))
    with pytest.raises(ExportError, match="another thing; --force replaces it"):
        make(base, source)
    assert own.read_text() == source.read_text()
    make(base, source, replace=True)
    assert len(examples(own)[0]) + len(examples(own)[1]) == 5
    with pytest.raises(ExportError, match="given twice"):
        make(base, (source, source))


def test_what_a_killed_run_left_is_no_obstacle(base: Source, tmp_path: Path) -> None:
    source = write(tmp_path, pairs(5))
    left = tmp_path / ".train.jsonl.part"
    left.mkdir()
    (left / "train.jsonl").write_text("half a li")
    descriptor = os.open(left, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(ExportError, match="being written by another process"):
        make(base, source)
    os.close(descriptor)
    assert make(base, source, validation=0.0).report.train == 5
    assert not left.exists()


def test_a_run_killed_between_two_renames_is_made_again(base: Source, tmp_path: Path) -> None:
    source = write(tmp_path, pairs(30))
    make(base, source)
    old = report_path(source.with_name("train.jsonl")).read_bytes()
    make(base, source, seed=5)
    report_path(source.with_name("train.jsonl")).write_bytes(old)
    assert not make(base, source).up_to_date
    assert make(base, source).up_to_date


def test_the_report_tells_lengths_and_people_see_them(base: Source, tmp_path: Path) -> None:
    rows = [{"prompt": "q", "completion": "a" * count} for count in (1, 2, 200)]
    source = write(tmp_path, [*rows, {"x": 1}])
    report = make(base, source, validation=0.0).report
    plain = sorted(len(base.text_reader().encode(e.text)) for e in examples(source)[0])
    found = report.lengths
    assert (found.shortest, found.median, found.longest) == tuple(plain)
    assert found.total == sum(plain)
    assert sum(each.examples for each in found.histogram) == 3
    for each in found.histogram:
        assert each.examples == sum(each.least <= count <= each.most for count in plain)
    lines = dataset_lines(report, source.with_name("train.jsonl"), up_to_date=False)
    assert any(line.endswith("█" * 40) for line in lines)
    assert f"  {source}, row 4: no known shape (its keys: x)" in lines


def test_a_damaged_line_is_named_to_training(base: Source, tmp_path: Path) -> None:
    source = write(tmp_path, pairs(3))
    make(base, source, validation=0.0)
    train = source.with_name("train.jsonl")
    lines = train.read_text().splitlines()
    train.write_text("\n".join([lines[0], lines[1].replace('"learn":[[', '"learn":[[9')]))
    with pytest.raises(ExportError, match=r"line 2: learn .* is no part of the text"):
        list(read_examples(train))
    train.write_text("\n".join([*lines[:2], lines[2][:-9]]))
    with pytest.raises(ExportError, match=r"line 3: .*nsedge-export dataset"):
        list(read_examples(train))


PIECES = st.sampled_from(["q", "a", "", " ", "<|im_end|>", "\ufdd0", "é", "x" * CONTEXT])
TURNS = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "x"]), "content": PIECES}
)
ROWS = st.one_of(
    st.fixed_dictionaries({"prompt": PIECES, "completion": PIECES}),
    st.fixed_dictionaries({"messages": st.lists(TURNS, max_size=4)}),
    st.none() | st.integers() | st.dictionaries(st.text(max_size=3), st.none(), max_size=2),
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=st.lists(ROWS, min_size=1, max_size=8), truncate=st.booleans())
def test_every_row_is_accounted_for(
    base: Source, tmp_path: Path, rows: list[Any], truncate: bool
) -> None:
    good = {"prompt": "always", "completion": "there"}
    source = write(tmp_path, [*rows, good])
    report: DatasetReport = make(base, source, truncate=truncate, validation=0.0).report
    accepted = [example.row for example in examples(source)[0]]
    dropped = [each.row for each in report.dropped]
    assert sorted(accepted + dropped) == list(range(1, len(rows) + 2))
    assert report.rows == report.train + report.validation + len(report.dropped)
    assert Counter(each.cause for each in report.dropped) == report.causes
    assert all(each.reason for each in report.dropped)


def test_the_template_is_part_of_the_key(tmp_path: Path) -> None:
    base = base_source(tmp_path / "base")
    source = write(tmp_path, pairs(5))
    make(base, source)
    settings_file = base.folder / "tokenizer_config.json"
    changed = {"eos_token": "<|im_end|>", "chat_template": CHATML.replace("SmolLM", "Someone")}
    settings_file.write_text(json.dumps(changed))
    fresh = Source(folder=base.folder, origin="tiny")
    assert not make(fresh, source).up_to_date
    assert "named Someone" in examples(source)[0][0].text
