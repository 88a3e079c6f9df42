"""docs/errors.md and nsedge/errors.py say the same.

`python -m tests.unit.docs.test_errors_page` rewrites the page's table.
"""

from __future__ import annotations

from pathlib import Path

from nsedge.errors import NsedgeError, of_code, tree

PATH = Path(__file__).parents[3] / "docs" / "errors.md"
BEGIN, END = "<!-- codes -->\n", "<!-- /codes -->\n"


def table() -> str:
    rows = ["| Code | Class | Retry | Meaning |", "|---|---|---|---|"]
    for error in tree():
        assert error.__doc__ is not None
        meaning = " ".join(error.__doc__.split("\n\n")[0].split())
        retry = "yes" if error.retryable else "no"
        rows.append(f"| `{error.code}` | {error.__name__} | {retry} | {meaning} |")
    return "\n".join(rows) + "\n"


def rendered(page: str) -> str:
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


def test_the_page_is_up_to_date() -> None:
    page = PATH.read_text(encoding="utf-8")
    assert page == rendered(page), "run `python -m tests.unit.test_errors_page`"


def test_codes_are_unique_and_lead_back_to_their_class() -> None:
    errors = list(tree())
    codes = [error.code for error in errors]
    assert len(set(codes)) == len(codes)
    assert all(of_code(error.code) is error for error in errors)
    assert of_code("of_tomorrow") is NsedgeError


if __name__ == "__main__":
    PATH.write_text(rendered(PATH.read_text(encoding="utf-8")), encoding="utf-8")
