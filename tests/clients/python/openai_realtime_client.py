"""OpenAI's Python client in a realtime session that transcribes."""

import base64
import os
import wave

from checking import URL, run
from openai import OpenAI

SPEECH = os.environ["NSEDGE_SPEECH"]
with wave.open(os.environ["NSEDGE_RECORDING"]) as recording:
    RATE = recording.getframerate()
    SAMPLES = memoryview(recording.readframes(recording.getnframes())).cast("h").tolist()
SAID = "he might even have been made amiable himself"
SECOND = 24_000
client = OpenAI(
    base_url=f"{URL}/v1",
    websocket_base_url=f"{URL.replace('http', 'ws', 1)}/v1",
    api_key="none",
    max_retries=0,
)


def at_24_khz() -> bytes:
    """The recording, with two samples for each and a half of them."""
    count = len(SAMPLES) * SECOND // RATE
    found = bytearray()
    for number in range(count):
        place, part = divmod(number * RATE, SECOND)
        after = SAMPLES[min(place + 1, len(SAMPLES) - 1)]
        value = SAMPLES[place] + (after - SAMPLES[place]) * part // SECOND
        found += value.to_bytes(2, "little", signed=True)
    return bytes(found)


SPOKEN, SILENCE = at_24_khz(), bytes(2 * SECOND)
INTENT = {"intent": "transcription"}


def plain(text: str) -> str:
    return "".join(one for one in text.lower() if one.isalpha() or one == " ").strip()


def session(**audio: object) -> dict:
    given = {"transcription": {"model": SPEECH, "language": "en"}, **audio}
    return {"type": "transcription", "audio": {"input": given}}


def append(connection, data: bytes) -> None:
    for begin in range(0, len(data), 9600):
        piece = base64.b64encode(data[begin : begin + 9600]).decode()
        connection.input_audio_buffer.append(audio=piece)


def until(connection, kind: str) -> list:
    heard = []
    while not heard or heard[-1].type != kind:
        heard.append(connection.recv())
        assert heard[-1].type != "error", heard[-1]
    return heard


COMPLETED = "conversation.item.input_audio_transcription.completed"


def turns() -> None:
    with client.realtime.connect(extra_query=INTENT) as connection:
        assert connection.recv().type == "session.created"
        connection.session.update(session=session())
        set_ = until(connection, "session.updated")[-1]
        assert set_.session.audio.input.turn_detection.type == "server_vad"
        append(connection, SILENCE + SPOKEN + SILENCE)
        heard = until(connection, COMPLETED)
        kinds = [one.type.removeprefix("input_audio_buffer.") for one in heard]
        order = ["speech_started", "speech_stopped", "committed", COMPLETED]
        assert [one for one in kinds if one in order] == order
        assert plain(heard[-1].transcript) == SAID
        deltas = "".join(one.delta for one in heard if one.type.endswith(".delta"))
        assert deltas == heard[-1].transcript
        started, stopped = (next(e for e in heard if e.type.endswith(k)) for k in order[:2])
        assert 500 <= started.audio_start_ms <= 1500 < 3500 <= stopped.audio_end_ms <= 5500
        assert started.item_id == heard[-1].item_id


def commits() -> None:
    with client.realtime.connect(extra_query=INTENT) as connection:
        connection.session.update(session=session(turn_detection=None))
        assert until(connection, "session.updated")[-1].session.audio.input.turn_detection is None
        items = []
        for _ in range(2):
            append(connection, SPOKEN)
            connection.input_audio_buffer.commit()
            heard = until(connection, COMPLETED)
            assert plain(heard[-1].transcript) == SAID
            items.append(next(e for e in heard if e.type.endswith(".committed")))
        assert items[1].previous_item_id == items[0].item_id
        append(connection, SPOKEN)
        connection.input_audio_buffer.clear()
        until(connection, "input_audio_buffer.cleared")


def g711() -> None:
    with client.realtime.connect(extra_query=INTENT) as connection:
        form = {"type": "audio/pcmu"}
        connection.session.update(session=session(format=form, turn_detection=None))
        until(connection, "session.updated")
        append(connection, b"\xff" * 8000)
        connection.input_audio_buffer.commit()
        assert until(connection, COMPLETED)[-1].transcript == ""


def errors() -> None:
    with client.realtime.connect(extra_query=INTENT) as connection:
        connection.recv()
        connection.input_audio_buffer.commit(event_id="mine")
        error = connection.recv()
        assert error.type == "error"
        assert error.error.code == "input_audio_buffer_commit_empty"
        assert error.error.event_id == "mine"
        connection.session.update(session={"type": "realtime"})
        assert connection.recv().error.param == "session.type"


run(turns, commits, g711, errors)
