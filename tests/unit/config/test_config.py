"""Settings: precedence, strictness, and the page that documents them."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsedge.config import reader as config
from nsedge.config.declared import KEYS, page
from nsedge.config.reader import Override
from nsedge.config.settings import Settings
from nsedge.errors import ConfigInvalid
from nsedge.ipc.limits import Limits
from nsedge.runtime.settings import Device, EngineSettings
from nsedge.web.limits import WebLimits

ROOT = Path(__file__).parents[3]
ENVIRON = {"HOME": "/home/u"}


@pytest.fixture
def toml(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "n.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def load(environ=ENVIRON, file=None, **flags: str) -> Settings:
    overrides = [
        Override(flag=f"--{key}", key=key.replace("__", "."), text=text)
        for key, text in flags.items()
    ]
    return config.load(environ, file=file, overrides=overrides).settings


def refusal(environ=ENVIRON, file=None, **flags: str) -> str:
    with pytest.raises(ConfigInvalid) as caught:
        load(environ, file, **flags)
    message = caught.value.message
    assert "\n" not in message
    return message


def test_defaults_follow_the_xdg_directories():
    assert load().home == Path("/home/u/.local/share/nsedge")
    assert load().core.endpoint == "ipc:///home/u/.local/share/nsedge/run/nsedge.sock"
    xdg = {"HOME": "/h", "XDG_DATA_HOME": "/d", "XDG_RUNTIME_DIR": "/run/user/1"}
    assert load(xdg).home == Path("/d/nsedge")
    assert load(xdg).core.endpoint == "ipc:///run/user/1/nsedge/nsedge.sock"
    assert load({"HOME": "/h", "XDG_DATA_HOME": "relative"}).home == Path("/h/.local/share/nsedge")


def test_the_socket_follows_home():
    assert load({"NSEDGE_HOME": "/srv/n"}).core.endpoint == "ipc:///srv/n/run/nsedge.sock"


def test_no_home_at_all_is_told():
    assert "NSEDGE_HOME" in refusal({})
    assert load({"NSEDGE_HOME": "/srv/n"}).bundles == Path("/srv/n/bundles")


def test_flags_win_over_environment_over_file(toml):
    file = toml("[engine]\nslots = 2\nthreads = 3\nmax_queue = 4\n")
    environ = {**ENVIRON, "NSEDGE_ENGINE_SLOTS": "5", "NSEDGE_ENGINE_THREADS": "6"}
    loaded = config.load(
        environ, file=file, overrides=[Override(flag="--slots", key="engine.slots", text="7")]
    )
    engine = loaded.settings.engine
    assert (engine.slots, engine.threads, engine.max_queue) == (7, 6, 4)
    assert loaded.origins["engine.slots"] == "--slots"
    assert loaded.origins["engine.threads"] == "NSEDGE_ENGINE_THREADS"
    assert loaded.origins["engine.max_queue"] == str(file)
    assert loaded.origins["web.port"] == "default"
    assert loaded.file == file


def test_the_usual_file_is_read_where_there_is_one(tmp_path):
    environ = {"HOME": str(tmp_path)}
    assert config.load(environ).file is None
    usual = tmp_path / ".config" / "nsedge" / "nsedge.toml"
    usual.parent.mkdir(parents=True)
    usual.write_text("[web]\nport = 4000\n", encoding="utf-8")
    assert load(environ).web.port == 4000
    elsewhere = tmp_path / "elsewhere"
    assert config.load({**environ, "XDG_CONFIG_HOME": str(elsewhere)}).file is None


def test_the_environment_names_a_file_and_the_flag_another(toml, tmp_path):
    named = toml("[web]\nport = 4001\n")
    environ = {**ENVIRON, "NSEDGE_CONFIG": str(named)}
    assert load(environ).web.port == 4001
    other = tmp_path / "other.toml"
    other.write_text("[web]\nport = 4002\n", encoding="utf-8")
    assert load(environ, other).web.port == 4002


def test_a_file_that_was_named_must_be_there():
    assert refusal(file=Path("/nowhere/n.toml")) == "/nowhere/n.toml: No such file or directory"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[core]\nendpont = 'x'", "core.endpont: no such setting; did you mean core.endpoint?"),
        ("slots = 3", "slots: no such setting; did you mean engine.slots?"),
        ("[enginge]\nslots = 3", "[enginge]: no such table; did you mean engine?"),
        ("core = 3", "core is a table: write [core]"),
        ("[engine]\nslots = 'many'", "engine.slots must be a whole number from 1 to 1024"),
        ("[engine]\nslots = '8'", "engine.slots must be a whole number from 1 to 1024, not '8'"),
        ("[engine]\nslots = 0", "not 0"),
        ("[engine]\nslots = true", "not True"),
        ("[engine]\ndevice = 'tpu'", "engine.device must be \"auto\" or \"cpu\" or \"cuda\""),
        ("[log]\njson = 1", "log.json must be true or false, not 1"),
        ("[models]\nload = 'one'", "models.load must be a list of names or absolute paths"),
        ("[models]\nload = ['a/b']", "models.load: a path must be absolute"),
        ("home = 'here'", "home must be an absolute path, not 'here'"),
        ("[web]\nport = ", "Invalid value"),
        ("[web]\nport = 1\nport = 2", "Cannot overwrite a value"),
        ("[web]\nhost = ''", "web.host: must not be empty"),
    ],
)  # fmt: skip
def test_a_fault_in_the_file_names_file_and_key(toml, text, told):
    file = toml(text)
    message = refusal(file=file)
    assert message.startswith(f"{file}: ")
    assert told in message


def test_a_file_that_is_not_text_is_told(tmp_path):
    path = tmp_path / "n.toml"
    path.write_bytes(b"\xff\xfe")
    assert str(path) in refusal(file=path)


@pytest.mark.parametrize(
    ("variable", "text", "told"),
    [
        ("NSEDGE_ENGINE_SLOT", "3", "no such variable; did you mean NSEDGE_ENGINE_SLOTS?"),
        ("NSEDGE_QQ", "3", "no such variable"),
        ("NSEDGE_ENGINE_SLOTS", "x", "engine.slots must be a whole number from 1 to 1024, not 'x'"),
        ("NSEDGE_LOG_JSON", "perhaps", "log.json must be true or false, not 'perhaps'"),
        ("NSEDGE_HOME", "", "home must be an absolute path"),
        ("NSEDGE_ENDPOINT", "ipc://relative", "core.endpoint: "),
        ("NSEDGE_ENDPOINT", "http://127.0.0.1:1", "core.endpoint: "),
        ("NSEDGE_ENDPOINT", f"ipc:///{'x' * 107}", "core.endpoint: "),
        ("NSEDGE_HOME", f"/{'x' * 107}", "core.endpoint: "),
        ("NSEDGE_CORE_TCP_ENDPOINT", "tcp://0.0.0.0:5555", "core.allow_cleartext = true"),
        ("NSEDGE_CORE_TCP_ENDPOINT", "ipc:///tmp/x", "must be tcp://HOST:PORT"),
        ("NSEDGE_CORE_TCP_ENDPOINT", "tcp://127.0.0.1:3008", "needs port 3009, which web.port has"),
        ("NSEDGE_ENGINE_CONTEXT_TOKENS", "64", "128 is above engine.context_tokens 64"),
        ("NSEDGE_CORE_LIVENESS_S", "3", "2 times 2 is above core.liveness_s 3"),
    ],
)  # fmt: skip
def test_a_fault_in_the_environment_names_the_variable(variable, text, told):
    message = refusal({**ENVIRON, variable: text})
    assert message.startswith(variable)
    assert told in message


def test_variables_of_others_are_left_alone():
    environ = {**ENVIRON, "NSEDGE_CACHE": "/c", "NSEDGE_CONFIG": "", "NSEDGER": "x", "PORT": "1"}
    assert load(environ) == load()


def test_one_setting_under_two_names_is_refused():
    both = {"NSEDGE_ENDPOINT": "ipc:///tmp/a", "NSEDGE_CORE_ENDPOINT": "ipc:///tmp/b"}
    told = refusal({**ENVIRON, **both})
    assert "NSEDGE_ENDPOINT" in told
    assert "NSEDGE_CORE_ENDPOINT" in told


def test_words_become_values():
    environ = {
        **ENVIRON,
        "NSEDGE_MODELS_LOAD": "one, /two/three,",
        "NSEDGE_LOG_JSON": "true",
        "NSEDGE_WEB_KEEPALIVE_S": "2.5",
        "NSEDGE_HOME": "~/n",
    }
    settings = load(environ)
    assert settings.models.load == ("one", "/two/three")
    assert settings.log.json is True
    assert settings.web.keepalive_s == 2.5
    assert settings.home == Path("/home/u/n")


def test_a_flag_at_fault_is_named():
    assert refusal(engine__slot="3").startswith("--engine__slot: engine.slot: no such setting")
    assert refusal(web__port="x").startswith("--web__port: web.port must be")


def test_remote_doors_need_leave():
    allowed = {**ENVIRON, "NSEDGE_CORE_ALLOW_CLEARTEXT": "true"}
    remote = {**allowed, "NSEDGE_CORE_TCP_ENDPOINT": "tcp://0.0.0.0:5555"}
    assert load(remote).core.tcp_endpoint == "tcp://0.0.0.0:5555"


def test_curve_opens_remote_doors_too():
    curve = {"NSEDGE_CORE_CURVE_SECRET": "/k/core.key_secret", "NSEDGE_CORE_CURVE_CLIENTS": "/k/c"}
    remote = {**ENVIRON, **curve, "NSEDGE_CORE_TCP_ENDPOINT": "tcp://0.0.0.0:5555"}
    assert load(remote).core.curve_secret == "/k/core.key_secret"
    elsewhere = {"NSEDGE_CLIENT_CURVE_SECRET": "/k/me", "NSEDGE_CLIENT_SERVER_KEY": "x" * 40}
    assert load({**ENVIRON, **elsewhere, "NSEDGE_ENDPOINT": "tcp://jetson:5555"})


@pytest.mark.parametrize(
    "variable",
    ["CORE_CURVE_SECRET", "CORE_CURVE_CLIENTS", "CLIENT_CURVE_SECRET", "WEB_TLS_CERT"],
)
def test_halves_of_a_pair_are_refused(variable):
    assert "go together" in refusal({**ENVIRON, f"NSEDGE_{variable}": "/k"})


def test_files_are_paths_or_what_a_supervisor_passes():
    passed = {**ENVIRON, "CREDENTIALS_DIRECTORY": "/run/credentials/web"}
    named = load({**passed, "NSEDGE_WEB_KEYS": "credential:keys"})
    assert named.web.keys == "/run/credentials/web/keys"
    assert load({**ENVIRON, "NSEDGE_WEB_KEYS": "~/keys"}).web.keys == "/home/u/keys"
    assert "no supervisor" in refusal({**ENVIRON, "NSEDGE_WEB_KEYS": "credential:keys"})
    assert "plain name" in refusal({**passed, "NSEDGE_WEB_KEYS": "credential:../keys"})
    assert "absolute path" in refusal({**ENVIRON, "NSEDGE_WEB_KEYS": "keys"})


def test_settings_are_frozen():
    with pytest.raises(AttributeError):
        load().web.port = 1  # type: ignore[misc]


def test_every_setting_has_its_own_variable():
    variables = [variable for key in KEYS.values() for variable in key.variables]
    assert len(variables) == len(set(variables))
    assert {"NSEDGE_HOME", "NSEDGE_ENDPOINT", "NSEDGE_WEB_HOST", "NSEDGE_WEB_PORT"} < set(variables)


def test_every_setting_says_what_it_means():
    assert [key.path for key in KEYS.values() if not key.meta.description] == []


def test_defaults_are_those_of_the_parts_they_configure():
    settings = load()
    parts = {
        settings.engine: EngineSettings(),
        settings.core: Limits(),
        settings.web: WebLimits(),
    }
    for section, part in parts.items():
        shared = set(section.__struct_fields__) & set(type(part).__dataclass_fields__)
        assert len(shared) >= 3
        assert {name: getattr(section, name) for name in shared} == {
            name: getattr(part, name) for name in shared
        }
    assert {device.value for device in Device} == {"auto", "cpu", "cuda"}


def test_the_page_is_what_the_code_says():
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == page()


def test_the_supervisor_is_read_from_its_own_variables():
    environ = {"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7"}
    assert config.supervisor(environ, 7).notify_socket == "/run/n"
    assert config.supervisor(environ, 7).watchdog_s == 3.0
    assert config.supervisor(environ, 8).watchdog_s is None
    assert config.supervisor({"WATCHDOG_USEC": "nonsense"}, 7).watchdog_s is None
    assert config.supervisor({}, 7).notify_socket is None
    kept = {"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}
    assert config.supervisor(kept, 7).state == Path("/var/lib/a")
    assert config.supervisor({"STATE_DIRECTORY": "a"}, 7).state is None


def test_passed_sockets_are_those_of_this_process():
    environ = {"LISTEN_FDS": "2", "LISTEN_PID": "7"}
    assert config.supervisor(environ, 7).sockets == (3, 4)
    assert config.supervisor(environ, 8).sockets == ()
    assert config.supervisor({"LISTEN_FDS": "nonsense", "LISTEN_PID": "7"}, 7).sockets == ()
    assert config.supervisor({}, 7).sockets == ()


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("models__aliases", "a\x1b[31mb=c"),
        ("models__pin", "a\nb"),
        ("models__load", "/a\x85b"),
        ("web__host", "127.0.0.1\r"),
        ("core__endpoint", "ipc:///a\u202eb"),
        ("client__server_key", "\udcff"),
    ],
)
def test_no_text_holds_a_control_character(key, text, toml):
    name = key.replace("__", ".")
    told = f"{name} holds a control character: {text!a}"
    assert refusal(**{key: text}) == f"--{key}: {told}"
    variable = f"NSEDGE_{key.replace('__', '_')}".upper()
    assert refusal({**ENVIRON, variable: text}) == f"{variable}: {told}"


def test_a_file_that_is_no_text_is_told(tmp_path):
    path = tmp_path / "n.toml"
    path.write_bytes(b"# \xff")
    assert refusal(file=path) == f"{path}: byte 2 is no UTF-8"


def test_the_file_and_the_home_hold_no_control_character_either(toml):
    file = toml('[models]\naliases = ["a\\u001bb=c"]\n')
    assert "models.aliases holds a control character: 'a\\x1bb=c'" in refusal(file=file)
    assert "home holds a control character" in refusal({"HOME": "/home/\udcff"})
