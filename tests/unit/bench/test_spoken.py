"""Words of transcripts as they are compared, and prompts with what is said in them."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from bench.spoken import VOICES, errors, prompts, words_of, wrong_words


@pytest.mark.parametrize(
    ("text", "language", "words"),
    [
        ("Mr. Dashwood's cold-hearted.", "en", ["mister", "dashwood's", "cold", "hearted"]),
        ("Press 1, or 42.", "en", ["press", "one", "or", "forty", "two"]),
        (
            "At 20 past 007, dial 911",
            "en",
            ["at", "twenty", "past", "zero", "zero", "seven", "dial", "nine", "one", "one"],
        ),
        ("Número de teléfono, por favor.", "es", ["numero", "de", "telefono", "por", "favor"]),
        ("Введите ещё пароль!", "ru", ["введите", "еще", "пароль"]),
    ],
)
def test_words_are_compared_in_one_form(text: str, language: str, words: list[str]) -> None:
    assert words_of(text, language) == words


@pytest.mark.parametrize(
    ("wanted", "found", "wrong"),
    [("a b c", "a b c", 0), ("a b c", "a x c", 1), ("a b c", "c", 2), ("", "a b", 2), ("a", "", 1)],
)
def test_errors_are_changes_additions_and_omissions(wanted: str, found: str, wrong: int) -> None:
    assert errors(wanted.split(), found.split()) == wrong


def test_wrong_words_of_several_texts() -> None:
    assert wrong_words(["One two three.", "Four"], ["1 2 tree", "four or"]) == (2, 4)


def test_prompts_have_a_file_and_words_enough(tmp_path: Path) -> None:
    folder = tmp_path / "asterisk" / "sounds" / VOICES["es"]
    told = tmp_path / "doc" / "asterisk-core-sounds-es"
    folder.mkdir(parents=True)
    told.mkdir(parents=True)
    lines = (
        "; Core sounds",
        "beep: [this is a simple beep tone of one second]",
        "long: Por favor ingrese su número",
        "other: Por favor ingrese la clave",
        "absent: Por favor ingrese la extensión",
        "short: Gracias",
    )
    text = "\n".join(lines).encode()
    (told / "core-sounds-es.txt.gz").write_bytes(gzip.compress(text))
    for name in ("beep", "long", "other", "short"):
        (folder / f"{name}.wav").touch()
    found = prompts("es", most=9, share=tmp_path)
    assert found == {
        str(folder / "long.wav"): "Por favor ingrese su número",
        str(folder / "other.wav"): "Por favor ingrese la clave",
    }
    assert len(prompts("es", most=1, share=tmp_path)) == 1
    assert prompts("fr", most=9, share=tmp_path) == {}
