"""The units and their installation, as files; tests/systemd runs them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from nsedge.cli import install_units
from nsedge.config import reader as config
from nsedge.errors import ConfigInvalid

OPT = Path("/opt/nsedge")
USR = Path("/usr")


def written(root: Path, *, systemd: int = 252) -> dict[str, str]:
    done = install_units.write(root, prefix=OPT, base=USR, systemd=systemd)
    return {str(one.path.relative_to(root)): one.state for one in done}


def values(unit: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", install_units.sources()[unit], flags=re.MULTILINE)


def test_every_file_goes_to_its_place(tmp_path: Path) -> None:
    assert set(written(tmp_path)) == {
        "etc/systemd/system/nsedge.service",
        "etc/systemd/system/nsedge.socket",
        "etc/systemd/system/nsedge-web.service",
        "etc/systemd/system/nsedge-web.socket",
        "etc/sysusers.d/nsedge.conf",
        "etc/tmpfiles.d/nsedge.conf",
        "etc/nsedge/nsedge.toml",
    }


def test_installing_again_replaces_units_and_keeps_settings(tmp_path: Path) -> None:
    written(tmp_path)
    unit, settings = "etc/systemd/system/nsedge.service", "etc/nsedge/nsedge.toml"
    (tmp_path / unit).write_text("stale")
    (tmp_path / settings).write_text("[engine]\nslots = 2\n")
    again = written(tmp_path)
    assert (again.pop(unit), again.pop(settings)) == ("written", "kept")
    assert set(again.values()) == {"unchanged"}
    assert (tmp_path / settings).read_text() == "[engine]\nslots = 2\n"


def test_units_name_the_place_that_nsedge_and_its_interpreter_are_in() -> None:
    text = install_units.sources()["nsedge-web.service"]
    there = install_units.adapted(
        text, prefix=Path("/srv/ns"), base=Path("/opt/python"), systemd=252
    )
    assert "ExecStart=/srv/ns/bin/nsedge web\n" in there
    assert "BindReadOnlyPaths=/srv/ns /opt/python\n" in there
    assert str(OPT) not in there
    assert install_units.adapted(text, prefix=OPT, base=USR, systemd=252) == text


def test_a_systemd_that_waits_for_reloads_is_told_to() -> None:
    text = install_units.sources()["nsedge.service"]
    newer = install_units.adapted(text, prefix=OPT, base=USR, systemd=253)
    assert "Type=notify-reload\n" in newer
    assert "ExecReload" not in newer
    assert "Type=notify\n" in text
    assert "ExecReload=" in text


@pytest.mark.parametrize("place", ["/home/a/venv", "/root/.venv", "/tmp/x", "/run/user/1000/v"])
def test_what_services_do_not_see_is_refused(place: str) -> None:
    with pytest.raises(ConfigInvalid, match=r"install nsedge in /opt/nsedge"):
        install_units.program_prefix(Path(place), USR)
    with pytest.raises(ConfigInvalid, match="services do not see"):
        install_units.program_prefix(OPT, Path(place))
    assert install_units.program_prefix(OPT, USR) == OPT


def test_the_example_configuration_is_what_the_units_go_by(tmp_path: Path) -> None:
    written(tmp_path)
    file = tmp_path / "etc/nsedge/nsedge.toml"
    settings = config.load({}, file=file).settings
    assert str(settings.home) == "/var/lib/nsedge"
    path = settings.core.endpoint.removeprefix("ipc://")
    assert values("nsedge.socket", "ListenStream") == [path, f"{path}.control"]
    port = values("nsedge-web.socket", "ListenStream")
    assert port == [f"{settings.web.host}:{settings.web.port}"]
    assert values("nsedge.service", "Environment") == ["NSEDGE_CONFIG=/etc/nsedge/nsedge.toml"]


def test_what_the_example_leaves_out_is_the_default(tmp_path: Path) -> None:
    text = install_units.sources()["nsedge.toml"]
    said = re.sub(r"^#(\w+ = )", r"\1", text, flags=re.MULTILINE)
    said = re.sub(r"^load = .*$", "", said, flags=re.MULTILINE)
    (tmp_path / "all.toml").write_text(said)
    (tmp_path / "plain.toml").write_text(text)
    full = config.load({}, file=tmp_path / "all.toml").settings
    assert full == config.load({}, file=tmp_path / "plain.toml").settings
    assert len(tomllib.loads(said)) > 3


@pytest.mark.parametrize("unit", ["nsedge.service", "nsedge-web.service"])
def test_a_process_that_hangs_or_fails_is_started_anew_within_limits(unit: str) -> None:
    assert values(unit, "Type") == ["notify"]
    assert values(unit, "Restart") == ["on-failure"]
    assert values(unit, "RestartPreventExitStatus") == ["2"]
    for key in ("WatchdogSec", "StartLimitBurst", "StartLimitIntervalSec", "TimeoutAbortSec"):
        assert len(values(unit, key)) == 1, key
    assert values(unit, "User") == [unit.removesuffix(".service")]
