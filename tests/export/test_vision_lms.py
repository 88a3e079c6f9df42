"""Models that see: what a daemon answers about pictures is what transformers answers, alone and
beside others, in every form of the graph."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from exporters.__main__ import main
from nsedge.api import (
    Chat,
    Delta,
    Media,
    MediaPart,
    Message,
    PromptQuestion,
    Role,
    TextPart,
)
from nsedge.bundle.manifest import Bundle
from nsedge.bundle.vision_lm import VisionLm
from nsedge.errors import ContextExceeded, InvalidMedia, InvalidParameter
from nsedge.ipc.client import AsyncClient
from nsedge.runtime.settings import PrefixReuse
from nsedge.web.door_settings import DoorSettings
from tests.export.tiny_vision_lms import (
    FAMILIES,
    TOKEN,
    write_vision_folder,
)
from tests.export.vision_rig import (
    GREEDY,
    LOOSE,
    PICTURES,
    QUESTIONS,
    ROWS,
    TOKENS,
    Bundles,
    ByTransformers,
    media,
    said,
    serving,
    tokens_of,
)
from tests.web_server import running

pytestmark = [pytest.mark.export, pytest.mark.usefixtures("own_places")]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {family: write_vision_folder(root / f"Tiny-{family}", family) for family in FAMILIES}


@pytest.fixture(scope="module")
def made(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    return Bundles(folders, tmp_path_factory.mktemp("bundles"))


@pytest.fixture
def bundles(made: Bundles, own_places: None) -> Bundles:
    """Asked for within a test, whose places they are made in."""
    return made


def answer(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> dict[str, Any]:
    assert main([*arguments, "--json"]) == status
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_those_of_transformers(
    family: str, folders: dict[str, Path], bundles: Bundles
) -> None:
    reference = ByTransformers(folders[family], family)
    wanted = [reference.answer(*turns) for turns in QUESTIONS]
    assert wanted[0] != reference.answer(said("What is this?", PICTURES[1]))
    with serving(bundles[family], "cpu-fp32") as (client, _):
        asked = [client.chat("tiny", turns, sampling=GREEDY) for turns in QUESTIONS]
        assert [tokens_of(one) for one in asked] == wanted
        for turns, tokens in zip(QUESTIONS, wanted, strict=True):
            assert tokens_of(client.chat("tiny", turns, sampling=GREEDY)) == tokens


FORMS = ("cpu-fp32", "cpu-int8", "cpu-int8-native", "cpu-int8-kv8")


@pytest.mark.parametrize(
    ("family", "form"),
    [
        *((family, form) for family in ("llava", "qwen2_5_vl") for form in FORMS),
        *(
            (family, form)
            for family in ("idefics3", "llava_next")
            for form in ("cpu-int8", "cpu-int8-native")
        ),
    ],
)
def test_company_and_pieces_change_no_answer(family: str, form: str, bundles: Bundles) -> None:
    many = [*QUESTIONS, [said("Again?", PICTURES[1])], [said("Words alone, many of them.")]] * 2
    with serving(bundles[family], form, prefix_reuse=PrefixReuse.OFF) as (client, _):
        alone = [tokens_of(client.chat("tiny", turns, sampling=GREEDY)) for turns in many]
    # Random weights may say the same of two prompts.
    assert len({tuple(tokens) for tokens in alone}) >= len(many) // 2 - 1
    # Pieces of 7 tokens end within pictures, which have 16 and more.
    small = {"prefill_chunk_tokens": 7, "prefix_reuse": PrefixReuse.OFF}
    with serving(bundles[family], form, **small) as (client, _):
        asked = [client.chat("tiny", turns, sampling=GREEDY) for turns in many]
        assert [tokens_of(one) for one in asked] == alone


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
@pytest.mark.parametrize("form", ["cpu-fp32", "cpu-int8-native"])
def test_a_prompt_goes_on_from_another_about_the_same_picture_alone(
    form: str, family: str, bundles: Bundles
) -> None:
    first = [said(PICTURES[0], "What is this? Tell me about it at some length.")]
    other = [said(PICTURES[1], "What is this? Tell me about it at some length.")]
    again = [*first, said("A woman.", role=Role.ASSISTANT), said("Is she?")]
    prompt = Bundle.open(bundles[family]).of_kind(VisionLm).manifest.processors.prompt
    with serving(bundles[family], form) as (client, _):
        ends = [client.chat("tiny", turns, sampling=GREEDY).collected() for turns in (first, other)]
        assert [end.usage.images for end in ends] == [1, 1]
        rows = ends[0].usage.media_tokens
        assert family != "llava" or rows == ends[1].usage.media_tokens == ROWS
        # What stands before the picture is the same.
        ids = client.read_prompt(PromptQuestion(model="tiny", task=Chat(messages=tuple(other))))
        assert ends[0].usage.cached_tokens == 0
        assert ends[1].usage.cached_tokens <= ids.token_ids.index(prompt.token_id)
        alone = tokens_of(client.chat("tiny", again, sampling=GREEDY))
        end = client.chat("tiny", again, sampling=GREEDY).collected()
        assert end.usage.cached_tokens > rows + 16
        assert tokens_of(client.chat("tiny", again, sampling=GREEDY)) == alone
    with serving(bundles[family], form, prefix_reuse=PrefixReuse.OFF) as (client, _):
        assert tokens_of(client.chat("tiny", again, sampling=GREEDY)) == alone


def test_several_choices_and_placeholders_of_the_client(bundles: Bundles) -> None:
    asked = [said(PICTURES[0], "What?")]
    marked = [
        Message(
            role=Role.USER,
            content=(MediaPart(media=media(PICTURES[0])), TextPart(text=f"{TOKEN}\nWhat?")),
        )
    ]
    with serving(bundles["llava"], "cpu-fp32") as (client, _):
        wanted = tokens_of(client.chat("tiny", asked, sampling=GREEDY))
        assert tokens_of(client.chat("tiny", marked, sampling=GREEDY)) == wanted
        twice = replace(GREEDY, n=2)
        told: dict[int, list[int]] = {0: [], 1: []}
        for event in client.chat("tiny", asked, sampling=twice):
            if isinstance(event, Delta):
                told[event.choice] += event.token_ids
        assert told == {0: wanted, 1: wanted}
        question = PromptQuestion(model="tiny", task=Chat(messages=tuple(asked)))
        assert client.read_prompt(question).token_ids.count(260) == ROWS


@pytest.mark.parametrize(
    ("turns", "error", "told"),
    [
        (
            [said(PICTURES[0], f"{TOKEN} and {TOKEN}?")],
            InvalidParameter,
            "has <image> 2 times, and it holds 1 pictures",
        ),
        ([said(*PICTURES * 12)], ContextExceeded, "the context holds 512"),
        ([said("\ufdd3")], InvalidParameter, "U.FDD3 is in its text"),
        (
            [
                Message(
                    role=Role.USER,
                    content=(MediaPart(media=Media(type="image/png", data=b"no picture")),),
                )
            ],
            InvalidMedia,
            r"messages\[0\].content\[0\]: 10 bytes are no picture",
        ),
        (
            [
                Message(
                    role=Role.USER,
                    content=(MediaPart(media=Media(type="audio/wav", data=b"no picture")),),
                )
            ],
            InvalidParameter,
            "reads text and image and video, and takes no audio/wav",
        ),
    ],
)
def test_what_cannot_be_seen_is_refused(
    turns: list[Message], error: type[Exception], told: str, bundles: Bundles
) -> None:
    with (
        serving(bundles["llava"], "cpu-fp32") as (client, _),
        pytest.raises(error, match=told),
    ):
        client.chat("tiny", turns, sampling=GREEDY).collected()


def test_doors_hand_pictures_on_and_count_their_tokens(bundles: Bundles) -> None:
    question, data = "What is this?", base64.b64encode(media(PICTURES[0]).data).decode()
    text = {"type": "text", "text": question}
    url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    source = {"type": "base64", "media_type": "image/png", "data": data}
    asked = {
        "/v1/chat/completions": {
            "model": "tiny",
            "messages": [{"role": "user", "content": [text, url]}],
            "temperature": 0,
            "max_tokens": TOKENS,
            "min_tokens": TOKENS,
        },
        "/v1/messages/count_tokens": {
            "model": "tiny",
            "messages": [{"role": "user", "content": [text, {"type": "image", "source": source}]}],
        },
        "/chat/vision": {
            "messages": [
                {
                    "role": "user",
                    "content": question,
                    "images": [{"data_base64": data, "mime_type": "image/png"}],
                }
            ],
            "config": {"maxTokens": TOKENS},
        },
    }

    async def answers(endpoint: str) -> dict[str, Any]:
        settings = DoorSettings(vision_model="tiny")
        async with (
            AsyncClient(endpoint) as client,
            running(client, settings=settings) as shim,
            aiohttp.ClientSession(shim.url) as session,
        ):
            return {path: await posted(session, path, body) for path, body in asked.items()}

    async def posted(session: aiohttp.ClientSession, path: str, body: Any) -> Any:
        async with session.post(path, json=body) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    with serving(bundles["llava"], "cpu-fp32") as (client, endpoint):
        told = asyncio.run(answers(endpoint))
        turns = [said(question, PICTURES[0])]
        alone = client.chat("tiny", turns, sampling=GREEDY).collected()
        deltas = [e for e in client.chat("tiny", turns, sampling=GREEDY) if isinstance(e, Delta)]
    choice = told["/v1/chat/completions"]["choices"][0]
    assert choice["message"]["content"] == "".join(delta.text for delta in deltas)
    tokens = alone.usage.prompt_tokens
    assert told["/v1/chat/completions"]["usage"]["prompt_tokens"] == tokens
    assert told["/v1/messages/count_tokens"]["input_tokens"] == tokens
    assert told["/chat/vision"]


def test_the_name_of_a_placeholder_in_words_is_words(bundles: Bundles) -> None:
    with serving(bundles["llava"], "cpu-fp32") as (client, _):
        task = Chat(messages=(said(f"The tag {TOKEN} of HTML"),))
        read = client.read_prompt(PromptQuestion(model="tiny", task=task))
        assert 260 not in read.token_ids
        assert TOKEN in client.detokenize("tiny", read.token_ids)


@pytest.mark.parametrize("family", ["llava", "llava_next", "qwen2_5_vl"])
def test_a_bundle_that_sees_verifies(
    family: str, bundles: Bundles, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = Bundle.open(bundles[family]).of_kind(VisionLm).manifest
    capsys.readouterr()  # it may have been made just now
    assert family != "llava" or manifest.processors.pictures.rows == ROWS
    assert manifest.tasks == ("generate", "chat")
    told = answer(capsys, "verify", str(bundles[family]), *LOOSE)
    assert told["passed"] is True
    after = told["pictures"]["after_pictures"]
    assert set(after) == {variant.name for variant in manifest.variants}
    assert family != "llava" or set(after) == set(FORMS)
    for name, found in after.items():
        assert found["kl"] < (1e-6 if name == "cpu-fp32" else 1e-3)
    for name, check in told["pictures"]["variants"].items():
        assert check["fidelity_measured"] == check["fidelity_recorded"], name


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("preprocessor_config.json", {"crop_size": 31}, "prepared as 31 x 31, and the encoder"),
        ("config.json", {"image_token_index": None, "image_token_id": None}, "no image_token_id"),
        ("config.json", {"image_token_id": 99999}, "the tokenizer has no token 99999"),
        ("config.json", {"model_type": "phi4mm"}, "code of its own .*, which has no form here"),
        ("config.json", {"vision_config": {"model_type": "x"}}, "encoder of pictures 'x' has no"),
    ],
)
def test_what_has_no_form_is_refused(
    name: str,
    changes: dict[str, Any],
    reason: str,
    folders: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = shutil.copytree(folders["llava"], tmp_path / "model")
    stated = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(stated | changes))
    assert main(["model", str(folder)]) == 1
    assert re.search(reason, capsys.readouterr().err)
