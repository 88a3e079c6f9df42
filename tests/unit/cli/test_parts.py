"""The command line's small parts, called with values."""

from __future__ import annotations

import io
import json
import logging
import sys
from pathlib import Path

import pytest

from nsedge import errors
from nsedge.api import Delta, Finished, FinishReason, Started, Timings, Usage
from nsedge.cli import bundles, commands, logs, machine, output
from nsedge.cli.exits import ExitStatus, status_of
from nsedge.cli.pace import Pace
from nsedge.cli.serve import endpoints, limits, service_settings
from nsedge.cli.web import limits as web_limits
from nsedge.config.reader import Override, load
from nsedge.errors import BundleInvalid, ConfigInvalid
from nsedge.runtime.settings import Device
from tests.fakes import FakeClock


def settings_of(*pairs: tuple[str, str]):
    overrides = [Override(flag="--set", key=key, text=text) for key, text in pairs]
    return load({"HOME": "/h"}, overrides=overrides).settings


def delta(count: int) -> Delta:
    return Delta(request_id="1", seq=0, text="x" * count, token_ids=tuple(range(count)))


def finished(
    reason: FinishReason = FinishReason.STOP, clipped: int | None = None, decode_s: float = 0.0
) -> Finished:
    return Finished(
        request_id="1",
        reason=reason,
        usage=Usage(prompt_tokens=3, completion_tokens=21),
        timings=Timings(queue_s=0, prefill_s=0, decode_s=decode_s),
        clipped_max_tokens=clipped,
    )


def test_every_error_has_a_status():
    statuses = {error.code: status_of(error) for error in errors.tree()}
    assert statuses["config_invalid"] == statuses["invalid_parameter"] == ExitStatus.USAGE
    assert statuses["connection_lost"] == statuses["queue_full"] == ExitStatus.UNAVAILABLE
    assert statuses["unknown_model"] == statuses["bundle_invalid"] == ExitStatus.FAILURE
    assert ExitStatus.OK not in statuses.values()


def test_the_first_token_is_the_readers_and_the_rate_the_cores():
    clock = FakeClock()
    pace = Pace(clock)
    pace.saw(Started(request_id="1", prompt_tokens=3, queue_s=0.0))
    clock.advance(0.25)
    pace.saw(delta(1))
    clock.advance(1e-4)  # the rest was under way while the reader started
    pace.saw(delta(20))
    end = finished(decode_s=1.0)
    assert pace.figures(end) == {"first_token_s": pytest.approx(0.25), "tokens_per_s": 20.0}
    assert pace.line(end) == "3 + 21 tokens · first token 250 ms · 20.0 tokens/s · stop"


def test_pace_of_an_answer_that_never_began():
    pace = Pace(FakeClock())
    assert pace.figures(finished()) == {"first_token_s": None, "tokens_per_s": None}
    assert "first token none" in pace.line(finished(FinishReason.CANCELLED))


def test_a_lowered_max_tokens_is_told():
    line = Pace(FakeClock()).line(finished(FinishReason.LENGTH, 21))
    assert line.endswith("length (max_tokens lowered to 21)")


def test_a_table_lines_up():
    assert output.table(("NAME", "N"), [("a", 5), ("long", 12)]) == [
        "NAME   N",
        "a      5",
        "long  12",
    ]


def test_a_table_without_rows_is_its_heads():
    assert output.table(("A", "B"), []) == ["A  B"]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**31, "2.0 GiB"), (2**51, "2048.0 TiB")],
)
def test_sizes(count, text):
    assert output.bytes_text(count) == text


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_no_control_sequences_from_a_model(monkeypatch):
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        monkeypatch.setattr("sys.stdout", stream)
        output.say("a\x1b[2Jb\tc\n")
    assert terminal.getvalue() == "a\N{REPLACEMENT CHARACTER}[2Jb\tc\n"
    assert pipe.getvalue() == "a\x1b[2Jb\tc\n"


def test_an_event_as_an_object():
    told = output.event_object(finished())
    assert told["type"] == "finished"
    assert told["reason"] == "stop"
    usage = {"prompt_tokens": 3, "completion_tokens": 21, "cached_tokens": 0}
    assert told["usage"] == {**usage, "audio_s": 0.0, "images": 0, "steps": 0, "media_tokens": 0}


def record(**extra: object) -> logging.LogRecord:
    made = logging.LogRecord("nsedge.core", logging.INFO, "f.py", 1, "ready: %s", ("all",), None)
    made.created, made.msecs = 1_700_000_000.25, 250.0
    vars(made).update(extra)
    return made


def test_a_log_line_is_text_or_json():
    text = logs.TextLines().format(record(models="a"))
    assert text == "2023-11-14T22:13:20.250Z INFO nsedge.core: ready: all models=a"
    assert json.loads(logs.JsonLines().format(record(models="a"))) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "info",
        "logger": "nsedge.core",
        "message": "ready: all",
        "models": "a",
    }


def test_what_a_client_chose_makes_up_no_lines_and_moves_no_cursor():
    made = record(model="a\x1b[2J\nb", path=Path("/a\x9bb"))
    made.args = ("a\x1b[2J\u2028b\n",)
    text = logs.TextLines().format(made)
    assert text.isprintable()
    assert r"ready: a\x1b[2J\u2028b\n" in text
    line = logs.JsonLines().format(made)
    assert line.isprintable()
    assert json.loads(line)["message"] == "ready: a\x1b[2J\u2028b\n"


def test_a_traceback_is_one_field_of_the_json():
    made = record()
    try:
        raise ValueError("broken")
    except ValueError:
        made.exc_info = sys.exc_info()
    line = logs.JsonLines().format(made)
    assert "\n" not in line
    assert "ValueError: broken" in json.loads(line)["exception"]
    assert logs.TextLines().format(made).endswith("ValueError: broken")


def make_bundle(folder, name):
    (folder / name).mkdir(parents=True)
    (folder / name / "manifest.json").write_text("{}", encoding="utf-8")
    return folder / name


def test_bundles_are_those_named_or_all(tmp_path):
    one, two = (make_bundle(tmp_path / "bundles", name) for name in ("one", "two"))
    elsewhere = make_bundle(tmp_path, "elsewhere")
    home = ("home", str(tmp_path))
    assert bundles.chosen(settings_of(home)) == (one, two)
    named = ("models.load", f"two,{elsewhere}")
    assert bundles.chosen(settings_of(home, named)) == (two, elsewhere)
    pinned = ("models.pin", "two")
    assert bundles.chosen(settings_of(home, pinned)) == (two, one), "pinned ones come first"
    assert bundles.named(settings_of(home, pinned)) == (two,)
    assert bundles.named(settings_of(home)) == ()


def test_a_bundle_that_is_not_there_is_told_with_those_that_are(tmp_path):
    make_bundle(tmp_path / "bundles", "one")
    for key in ("models.load", "models.pin"):
        with pytest.raises(ConfigInvalid, match=rf"{key}: no bundle at .*/three; in .*: one$"):
            bundles.chosen(settings_of(("home", str(tmp_path)), (key, "three")))


def test_no_bundle_at_all_says_how_to_make_one(tmp_path):
    with pytest.raises(BundleInvalid, match="nsedge-export starter"):
        bundles.chosen(settings_of(("home", str(tmp_path))))


def test_settings_reach_the_parts(tmp_path):
    make_bundle(tmp_path / "bundles", "one")
    settings = settings_of(
        ("home", str(tmp_path)),
        ("engine.slots", "3"),
        ("engine.device", "cuda"),
        ("core.tcp_endpoint", "tcp://127.0.0.1:5000"),
        ("core.liveness_s", "60"),
        ("web.allowed_hosts", "edge.local"),
    )
    assert service_settings(settings).engine.slots == 3
    assert service_settings(settings).engine.device is Device.CUDA
    assert endpoints(settings)[1:] == ("tcp://127.0.0.1:5000",)
    assert limits(settings).liveness_s == 60
    assert web_limits(settings).allowed_hosts == ("edge.local",)


def test_a_command_whose_extra_is_missing_says_what_to_install(monkeypatch):
    for name in [one for one in sys.modules if one.startswith(("nsedge.cli.", "nsedge.web."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(ConfigInvalid, match=r"pip install 'nsedge\[web\]'"):
        commands.find("web")


def test_memory_is_read_by_the_kernels_names(tmp_path):
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:       2048 kB\nHugePages_Total:       0\n", encoding="ascii")
    assert machine.memory_bytes(path) == {"MemTotal": 2048 * 1024}
    assert machine.memory_bytes(tmp_path / "none") == {}


def test_a_jetson_says_its_release(tmp_path):
    path = tmp_path / "nv_tegra_release"
    assert machine.tegra_release(path) is None
    path.write_text("# R36 (release), REVISION: 4.0\n", encoding="utf-8")
    assert machine.tegra_release(path) == "R36 (release), REVISION: 4.0"
