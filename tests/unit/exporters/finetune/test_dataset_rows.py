"""Rows of files: all of them, by number, whatever the bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporters.errors import ExportError
from exporters.finetune import rows
from exporters.finetune.rows import UTF16_BOMS, Row, read_rows


def read(folder: Path, name: str, content: str | bytes) -> list[Row]:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_rows(path))


def told(found: list[Row]) -> list[tuple[int, object]]:
    return [(row.number, row.value if row.problem is None else row.problem) for row in found]


@pytest.mark.parametrize(
    "content",
    [
        '[{"a": 1}, {"a": 2}]',
        '{"data": [{"a": 1}, {"a": 2}], "version": 3}',
        '{"a": 1}\n\n{"a": 2}',
        b'\xef\xbb\xbf[{"a": 1}, {"a": 2}]',
        '{"a": 1}\r\n{"a": 2}\r\n',
    ],
)
def test_what_a_json_file_holds_is_seen_in_it(tmp_path: Path, content: str | bytes) -> None:
    assert [row.value for row in read(tmp_path, "data.json", content)] == [{"a": 1}, {"a": 2}]


def test_one_object_is_one_row(tmp_path: Path) -> None:
    assert told(read(tmp_path, "data.json", '{\n "prompt": "a"}')) == [(1, {"prompt": "a"})]


def test_a_bad_line_is_a_row_with_its_line_and_reason(tmp_path: Path) -> None:
    content = b'\n{"a": 1}\n{"a": \n"\xff"\n  \n' + b"[" * 5000 + b"\n2"
    found = told(read(tmp_path, "data.jsonl", content))
    assert [number for number, _ in found] == [2, 3, 4, 6, 7]
    assert found[0][1] == {"a": 1}
    assert found[1][1] == "no JSON: Input data was truncated"
    assert str(found[2][1]).startswith("not UTF-8: invalid start byte")
    assert found[3][1] == "no row: it nests too deep"
    assert found[4][1] == 2


def test_a_line_without_end_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_ROW_BYTES", 16)
    found = read(tmp_path, "data.jsonl", b'{"a": 1}\n"' + b"x" * 100 + b'"\n{"a": 2}\n')
    assert [(row.number, row.size) for row in found] == [(1, 9), (2, 103), (3, 9)]
    assert [row.problem is None for row in found] == [True, False, True]
    with pytest.raises(ExportError, match=r"line 2: longer than .*; is it a CSV\?"):
        read(tmp_path, "data.csv", "a,b\n" + "x" * 100)


def test_csv_with_quotes_and_line_ends_within(tmp_path: Path) -> None:
    content = '\ufeffPrompt,Completion\r\n"a, ""b""\nc",d\r\n\r\ne,f\r\n'
    found = read(tmp_path, "data.csv", content)
    assert told(found) == [
        (1, {"prompt": 'a, "b"\nc', "completion": "d"}),
        (2, {"prompt": "e", "completion": "f"}),
    ]
    assert told(read(tmp_path, "d.csv", "prompt;completion\na;b, c\n"))[0][1] == {
        "prompt": "a",
        "completion": "b, c",
    }
    assert told(read(tmp_path, "d.tsv", "prompt\tcompletion\na\tb\n"))[0][1] == {
        "prompt": "a",
        "completion": "b",
    }


def test_bad_csv_records_are_rows_with_reasons(tmp_path: Path) -> None:
    content = b'prompt,completion\na\nb,c,d\n\xff,e\n"x"y,f\ng,h\n"never closed,i\nj,k\n'
    found = told(read(tmp_path, "data.csv", content))
    assert found == [
        (1, "1 fields where the header has 2"),
        (2, "3 fields where the header has 2"),
        (3, "not UTF-8"),
        (4, "no CSV up to line 5: ',' expected after '\"'"),
        (5, {"prompt": "g", "completion": "h"}),
        (6, "no CSV up to line 8: unexpected end of data"),
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\xfe[\x00", "is in UTF-16; convert it"),
        (b'"text"', "neither a list of rows nor an object"),
        (b'[{"a": 1},', "is no JSON file: Input data was truncated"),
        (b"[" * 5000, "is no JSON file"),
    ],
)
def test_a_json_file_that_is_none(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(ExportError, match=reason):
        read(tmp_path, "data.json", content)


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv"])
@pytest.mark.parametrize("content", [b"", b" \n\n", b"\xef\xbb\xbf"])
def test_nothing_is_no_row(tmp_path: Path, name: str, content: bytes) -> None:
    assert read(tmp_path, name, content) == []


def test_a_csv_header_must_be_text(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="the header is not UTF-8"):
        read(tmp_path, "data.csv", b"pr\xf6mpt,b\nc,d\n")


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    content=st.binary(max_size=400)
    | st.lists(st.sampled_from([b'{"a":1}', b"[", b'"', b"\n", b",", b"\r", b"\xff", b"}"])).map(
        b"".join
    ),
    name=st.sampled_from(["a.json", "a.jsonl", "a.csv", "a.tsv"]),
)
def test_any_bytes_are_rows_or_one_clear_error(tmp_path: Path, content: bytes, name: str) -> None:
    try:
        found = read(tmp_path, name, content)
    except ExportError as error:
        told_of = str(error)
        found = []
    else:
        told_of = name
    assert name in told_of
    numbers = [row.number for row in found]
    assert numbers == sorted(set(numbers))
    assert sum(row.size for row in found) <= len(content)
    if name == "a.jsonl" and not content.startswith(UTF16_BOMS):
        plain = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
        assert numbers == [i for i, line in enumerate(plain, 1) if line.strip()]
