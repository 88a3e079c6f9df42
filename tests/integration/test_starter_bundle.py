"""The starter bundle: true to its source, near to fp32, and whole."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from exporters.__main__ import main
from exporters.bundle.starter_folder import GGUF_MEMBER, WHEEL
from exporters.cache import Cache, cache_root
from exporters.measure.promise import MIN_POSITIONS
from exporters.measure.runner import TEXT_ROOM, Runner
from exporters.progress import Progress
from nsedge.api import Chat, Message, Role
from nsedge.bundle.manifest import Bundle
from nsedge.runtime.text.prompt import PromptReader
from tests.integration.gguf_reading import Reading, read_metadata

pytestmark = pytest.mark.integration

END = "<|im_end|>"
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
TEXTS = [
    "Hello world",
    "In 2024, 1234567 people paid $3.99 for 10% off.",
    "١٢٣ and ४५६ and ½ Ⅷ",
    "  leading  spaces\n\n\n\ttabs \t mixed   ",
    "a\r\nb\u00a0c\u3000d",
    "naïve café — 日本語 🎉👩‍👩‍👧‍👦🏳️‍🌈",
    "def f(x):\n    return x**2  # 10%\n",
    "don't I'll we've they're I'd 'S",
    "<|im_start|>user\nHi 42<|im_end|>\n<|endoftext|><repo_name>x<file_sep>",
    "<|im_start >not special<|im_end|",
    "\x00\x7f control",
    "",
]


@pytest.fixture(scope="module")
def bundle(starter_bundle: Path) -> Bundle:
    return Bundle.open(starter_bundle)


@pytest.fixture(scope="module")
def tokenizer(bundle: Bundle) -> Tokenizer:
    return Tokenizer.from_file(str(bundle.file(bundle.manifest.tokenizer.file)))


@pytest.fixture(scope="module")
def metadata() -> dict[str, object]:
    wheel = WHEEL.fetch(Cache(cache_root(), Progress(None)))
    with zipfile.ZipFile(wheel) as archive, archive.open(GGUF_MEMBER) as file:
        return read_metadata(file)


@pytest.fixture(scope="module")
def reading(metadata: dict[str, object]) -> Reading:
    return Reading(metadata)


@pytest.mark.parametrize("text", TEXTS)
def test_the_tokenizer_is_what_the_gguf_metadata_say(
    tokenizer: Tokenizer, reading: Reading, text: str
) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert ids == reading.encode(text)
    assert tokenizer.encode(text).ids == ids  # nothing is put around a text
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_vocabulary_and_special_tokens_are_the_metadatas(
    tokenizer: Tokenizer, reading: Reading
) -> None:
    assert tokenizer.get_vocab() == reading.ids
    added = tokenizer.get_added_tokens_decoder()
    assert {token.content for token in added.values()} == set(reading.special)
    assert all(token.special for token in added.values())
    assert len(reading.special) == 17


def test_the_manifest_says_what_the_metadata_say(
    bundle: Bundle, metadata: dict[str, object]
) -> None:
    manifest = bundle.manifest
    assert manifest.eos_token_ids == (metadata["tokenizer.ggml.eos_token_id"],)
    assert manifest.tokenizer.add_bos is metadata["tokenizer.ggml.add_bos_token"] is False
    assert manifest.tokenizer.eos_token == END
    assert manifest.context_length == metadata["llama.context_length"]
    assert bundle.text(bundle.manifest.chat_template) == metadata["tokenizer.chat_template"]
    defaults = manifest.generation_defaults
    assert (defaults.temperature, defaults.top_p) == (0.2, 0.9)
    assert manifest.provenance.licence == "Apache-2.0"
    assert bundle.file("LICENSE").read_text().lstrip().startswith("Apache License")
    assert manifest.provenance.parameters == 134_515_008


def test_a_chat_is_rendered_as_the_model_was_taught(
    bundle: Bundle, tokenizer: Tokenizer, reading: Reading
) -> None:
    turns = (
        Message(role=Role.USER, content="Hi"),
        Message(role=Role.ASSISTANT, content="Hello!"),
        Message(role=Role.USER, content="Count to 12."),
    )
    wanted = (
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\nCount to 12.<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    ids = PromptReader(bundle, tokenizer).read(Chat(messages=turns))
    assert list(ids) == reading.encode(wanted)


@pytest.fixture(scope="module")
def runner(bundle: Bundle) -> Runner:
    variant = bundle.manifest.variants[0]
    graph = bundle.file(variant.graph)
    return Runner(
        graph, io=variant.io, kv=variant.kv, capacity=TEXT_ROOM, requires=variant.requires
    )


def weights_file(bundle: Bundle) -> str:
    """The one file of weights, whatever the variants."""
    (name,) = [name for name in bundle.manifest.files if name.endswith(".data")]
    return name


def test_it_knows_the_capital_of_france_and_when_to_stop(
    bundle: Bundle, tokenizer: Tokenizer, runner: Runner
) -> None:
    question = Message(role=Role.USER, content="Name the capital of France.")
    ids = list(PromptReader(bundle, tokenizer).read(Chat(messages=(question,))))
    row = runner.log_probs(ids, len(ids) - 1)[-1]
    said: list[int] = []
    while len(said) < 40 and (token := int(row.argmax())) not in bundle.manifest.eos_token_ids:
        said.append(token)
        row = runner.next_log_probs(token)
    assert len(said) < 40
    assert "Paris" in tokenizer.decode(said)


def test_the_weights_are_mapped_not_copied(bundle: Bundle, runner: Runner) -> None:
    if not Path("/proc/self/maps").exists():
        pytest.skip("no /proc/self/maps here")
    data = str(bundle.file(weights_file(bundle)).resolve())
    assert data in Path("/proc/self/maps").read_text()
    assert runner.capacity == TEXT_ROOM


def test_it_verifies_and_keeps_its_promise(
    starter_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(starter_bundle), "--json"]) == 0
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["passed"] is True
    assert verdict["variants"]
    for check in verdict["variants"].values():
        measured = check["fidelity_measured"]
        assert measured["positions"] >= MIN_POSITIONS
        assert measured["kl"] <= 0.010
        assert measured["top1"] >= 0.93
        assert measured["perplexity"] <= measured["perplexity_fp32"] * 1.03
        assert measured["kl"] == pytest.approx(check["fidelity_recorded"]["kl"], rel=0.25)


def test_an_altered_weight_is_refused_by_name(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "altered"
    shutil.copytree(bundle.path, copy)
    name = weights_file(bundle)
    altered = copy / name
    content = bytearray(altered.read_bytes())
    content[len(content) // 2] ^= 1
    altered.write_bytes(content)
    assert main(["verify", str(copy)]) == 1
    assert f"{name} was altered" in capsys.readouterr().err
