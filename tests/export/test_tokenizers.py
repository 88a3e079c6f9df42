"""The shelf of tokenizers: fetched from a small hub of our own, and checked by size and round
trips."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from exporters.model.shelf import Known, known, shelf
from tests.export.test_hub import COMMIT, run, serving
from tests.export.tiny_encoders import write_json

pytestmark = pytest.mark.export

NAMES = (
    *("qwen-2.5", "llama-3", "mistral", "gpt-2", "deepseek-coder-v2", "starcoder-2", "code-llama"),
    *("clip", "llava-1.5", "siglip", "biobert", "scibert", "legal-bert", "finbert", "phi-3-mini"),
    "gpt-2-base",
)


def byte_level(tokens: int, special: tuple[str, ...]) -> Tokenizer:
    """Bytes, and as many other tokens as make up the size; special ones beside them."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    fillers = (f"filler{number}" for number in range(tokens))
    words = [*letters, *fillers][:tokens]
    made = Tokenizer(models.BPE({one: at for at, one in enumerate(words)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(list(special))
    return made


def write_repository(folder: Path, wanted: Known, *, tokens: int) -> Path:
    """What a hub has of a tokenizer of this kind and so many tokens."""
    folder.mkdir()
    if wanted.name in ("biobert", "scibert", "legal-bert", "finbert"):
        letters = [chr(number) for number in range(33, 127)]
        known_words = dict.fromkeys([*wanted.special, *letters, *(f"##{one}" for one in letters)])
        fillers = (f"filler{number}" for number in range(tokens))
        words = [*known_words, *fillers][:tokens]
        (folder / "vocab.txt").write_text("\n".join(words) + "\n")
        write_json(folder / "tokenizer_config.json", {"do_lower_case": wanted.lowercase})
        return folder
    byte_level(tokens, wanted.special).save(str(folder / "tokenizer.json"))
    return folder


def command(place: Path, endpoint: str, *words: str, status: int = 0) -> dict[str, Any]:
    result = run(place, endpoint, "tokenizers", *words, "--json")
    assert result.returncode == status, result.stderr
    told: dict[str, Any] = json.loads(result.stdout)
    return told


def test_the_sixteen_are_known() -> None:
    assert tuple(one.name for one in shelf()) == NAMES
    assert all(one.tokens > 20_000 and one.special for one in shelf())
    assert [one.name for one in shelf() if one.gated] == ["llama-3", "mistral"]


@pytest.mark.parametrize("name", ["gpt-2-base", "qwen-2.5", "biobert", "finbert"])
def test_one_is_fetched_and_passes(name: str, tmp_path: Path) -> None:
    wanted = known(name)
    folder = write_repository(tmp_path / "repository", wanted, tokens=wanted.tokens)
    with serving(folder, repository=wanted.repository) as hub:
        record = command(tmp_path, hub.endpoint, "fetch", name)
        assert (record["repository"], record["commit"]) == (wanted.repository, COMMIT)
        listed = command(tmp_path, hub.endpoint, "list")["tokenizers"]
        assert [one["name"] for one in listed if one["fetched"]] == [name]
    verdict = command(tmp_path, "http://127.0.0.1:9", "verify", name)
    assert verdict["passed"] is True
    assert verdict["tokens"] == wanted.tokens


def test_another_size_and_a_missing_token_fail(tmp_path: Path) -> None:
    wanted = known("gpt-2")
    folder = tmp_path / "repository"
    folder.mkdir()
    byte_level(40_000, ()).save(str(folder / "tokenizer.json"))
    with serving(folder, repository=wanted.repository) as hub:
        command(tmp_path, hub.endpoint, "fetch", "gpt-2")
        verdict = command(tmp_path, hub.endpoint, "verify", "gpt-2", status=1)
    assert verdict["failures"] == ["40000 tokens, not 50257", "no token '<|endoftext|>'"]


def test_a_text_that_does_not_come_back_fails(tmp_path: Path) -> None:
    wanted = known("gpt-2")
    made = byte_level(wanted.tokens, wanted.special)
    made.decoder = decoders.Fuse()
    folder = tmp_path / "repository"
    folder.mkdir()
    made.save(str(folder / "tokenizer.json"))
    with serving(folder, repository=wanted.repository) as hub:
        command(tmp_path, hub.endpoint, "fetch", "gpt-2")
        verdict = command(tmp_path, hub.endpoint, "verify", "gpt-2", status=1)
    assert any("comes back as" in reason for reason in verdict["failures"])


def test_what_is_wrong_is_told_in_one_line(tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9"
    told = command(tmp_path, nowhere, "fetch", "other", status=1)["error"]
    assert told.startswith("no tokenizer 'other' is known; there are qwen-2.5, ")
    told = command(tmp_path, nowhere, "verify", "clip", status=1)["error"]
    assert told == "clip is not here; nsedge-export tokenizers fetch clip"
    told = command(tmp_path, nowhere, "fetch", "clip", status=1)["error"]
    assert told.startswith("openai/clip-vit-base-patch32: the hub cannot be reached")


def test_a_file_that_was_altered_is_not_trusted(tmp_path: Path) -> None:
    wanted = known("gpt-2")
    folder = write_repository(tmp_path / "repository", wanted, tokens=wanted.tokens)
    with serving(folder, repository=wanted.repository) as hub:
        place = Path(command(tmp_path, hub.endpoint, "fetch", "gpt-2")["place"])
    with (place / "tokenizer.json").open("a") as file:
        file.write(" ")
    told = command(tmp_path, "http://127.0.0.1:9", "verify", "gpt-2", status=1)["error"]
    assert told.endswith("was altered since it was fetched; fetch it anew")
