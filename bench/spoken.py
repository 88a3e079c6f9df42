"""Recorded human speech with what is said in it, from Debian's packages, and how many words of a
transcript are wrong.

pocketsphinx-testdata has sentences of LibriVox; asterisk-core-sounds-LANGUAGE-wav has a telephone
system's prompts, 8,000 samples a second, in English, Spanish, French, Italian and Russian.
"""

from __future__ import annotations

import gzip
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

SHARE = Path("/usr/share")
RECORDINGS = SHARE / "pocketsphinx" / "test" / "data" / "librivox"
VOICES = {
    "en": "en_US_f_Allison",
    "es": "es_MX_f_Allison",
    "fr": "fr_CA_f_June",
    "it": "it_IT_m_Carlo",
    "ru": "ru_RU_f_IvrvoiceRU",
}
"""Whose voice the prompts of a language are, as their folder is called."""
LEAST_WORDS = 4
"""Of a prompt: what is shorter is a name or a number, which nothing around it explains."""
SPELT = {"mr": "mister", "mrs": "missus", "dr": "doctor"}
ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    "nineteen",
)
TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
HUNDRED = 100


def recordings() -> dict[str, str]:
    """Files of sentences, and what is said in each."""
    lines = (RECORDINGS / "transcription").read_text(encoding="utf-8").splitlines()
    found = {}
    for line in lines:
        said, _, name = line.rpartition("(")
        words = re.sub(r"</?s>", " ", said)
        found[str(RECORDINGS / f"{name.rstrip(')')}.wav")] = " ".join(words.split())
    return found


def prompts(language: str, *, most: int, share: Path = SHARE) -> dict[str, str]:
    """Files of prompts, in order of their names, and what is said in each; none where the packages
    are not there. `share`: where they were unpacked, for who does not install them."""
    name = f"core-sounds-{language}"
    path = share / "doc" / f"asterisk-{name}" / f"{name}.txt.gz"
    folder = share / "asterisk" / "sounds" / VOICES[language]
    found: dict[str, str] = {}
    if not path.is_file():
        return found
    for line in gzip.decompress(path.read_bytes()).decode().splitlines():
        called, _, said = line.partition(": ")
        file = folder / f"{called}.wav"
        plain = said and "[" not in said and not line.startswith(";")
        if plain and len(words_of(said, language)) >= LEAST_WORDS and file.is_file():
            found[str(file)] = said
    return dict(sorted(found.items())[:most])


def words_of(text: str, language: str = "en") -> list[str]:
    """The words of a text, as they are compared: lower case, no punctuation; English numbers spelt
    out, other languages without accents, which their transcripts often leave out."""
    text = text.lower().replace("-", " ").replace("’", "'")
    if language == "en":
        plain = re.sub(r"[^a-z0-9' ]", " ", text)
        words = (SPELT.get(word, word) for word in plain.split())
        return [part for word in words for part in _number(word)]
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return re.sub(r"[^\w ]", " ", bare).split()


def _number(word: str) -> list[str]:
    """A number below a hundred in words, digit by digit above; another word as it is."""
    if not word.isdigit():
        return [word]
    if len(word) > 1 and (word.startswith("0") or int(word) >= HUNDRED):
        return [ONES[int(digit)] for digit in word]
    tens, ones = divmod(int(word), 10)
    if int(word) < len(ONES):
        return [ONES[int(word)]]
    return [TENS[tens], *([ONES[ones]] if ones else [])]


def errors(wanted: Sequence[str], found: Sequence[str]) -> int:
    """Words to change, add or leave out, to come from one to the other."""
    row = list(range(len(found) + 1))
    for number, word in enumerate(wanted, 1):
        before, row[0] = row[0], number
        for place, other in enumerate(found, 1):
            before, row[place] = (
                row[place],
                min(row[place] + 1, row[place - 1] + 1, before + (word != other)),
            )
    return row[-1]


def wrong_words(
    spoken: Iterable[str], written: Iterable[str], language: str = "en"
) -> tuple[int, int]:
    """Of all that was spoken: how many words are wrong in what was written, and how many there
    are."""
    wrong = count = 0
    for said, text in zip(spoken, written, strict=True):
        words = words_of(said, language)
        wrong += errors(words, words_of(text, language))
        count += len(words)
    return wrong, count
