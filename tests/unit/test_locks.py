"""The lock files in .locks are those of pyproject.toml; `make locks` makes them so."""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / ".locks"
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = {
    "daemon": ("web",),
    "extras": ("web", "signatures", "telemetry"),
    "exporters": ("web", "exporters"),
    "development": ("web", "exporters", "dev"),
    "next": ("web", "exporters-next", "dev"),
}
MACHINES = ("x86_64", "aarch64")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
INSTALLED_APART = "torch"
NEVER = re.compile(r"torch|triton|onnxruntime|(nvidia|cuda)-.*")
HASH = re.compile(r" +--hash=sha256:[0-9a-f]{64}( \\)?")


def lines(name: str) -> Iterator[str]:
    """Of a lock file, and of those that it begins with."""
    for line in (LOCKS / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("-r "):
            yield from lines(line.removeprefix("-r ").removesuffix(".txt"))
        elif not line.startswith("#"):
            yield line


def pins(name: str) -> list[Requirement]:
    return [
        Requirement(line.removesuffix("\\")) for line in lines(name) if not line.startswith(" ")
    ]


def wanted(name: str) -> list[Requirement]:
    """What pyproject.toml declares for an environment, torch aside."""
    if name == "tools":
        texts = DECLARED["dependency-groups"]["tools"]
    else:
        project = DECLARED["project"]
        texts = [*DECLARED["build-system"]["requires"], *project["dependencies"]]
        for extra in EXTRAS[name]:
            texts += project["optional-dependencies"][extra]
    found = [Requirement(text) for text in texts]
    return [requirement for requirement in found if requirement.name != INSTALLED_APART]


def targets() -> Iterator[Mapping[str, str]]:
    for machine, python in itertools.product(MACHINES, PYTHONS):
        yield {
            "python_version": python,
            "python_full_version": f"{python}.1",
            "platform_machine": machine,
            "sys_platform": "linux",
            "platform_system": "Linux",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
        }


def chosen(name: str, target: Mapping[str, str]) -> dict[str, str]:
    """The version of each package that a file installs on `target`."""
    found: dict[str, str] = {}
    for pin in pins(name):
        if pin.marker is None or pin.marker.evaluate(dict(target)):
            (version,) = pin.specifier
            assert version.operator == "==", pin
            assert pin.name not in found, f"{pin.name} twice on {target}"
            found[pin.name] = version.version
    return found


@pytest.mark.parametrize("name", [*EXTRAS, "tools"])
def test_what_is_declared_is_locked_inside_its_range(name: str) -> None:
    for target in targets():
        found = chosen(name, target)
        for requirement in wanted(name):
            if requirement.marker is None or requirement.marker.evaluate(dict(target)):
                version = found.get(canonicalize_name(requirement.name))
                assert version is not None, f"{requirement} is not locked: make locks"
                assert requirement.specifier.contains(version), f"{requirement}, but {version}"


def test_every_lock_file_is_held_by_these_tests() -> None:
    assert {path.stem for path in LOCKS.iterdir()} == {*EXTRAS, "tools"}


@pytest.mark.parametrize("name", [*EXTRAS, "tools"])
def test_a_lock_file_holds_pins_and_hashes_and_nothing_else(name: str) -> None:
    assert not [pin.name for pin in pins(name) if NEVER.fullmatch(pin.name)]
    hashed = True
    for line in lines(name):
        if line.startswith(" "):
            assert HASH.fullmatch(line), line
            hashed = True
        else:
            assert hashed, f"no hash before {line}"
            assert re.fullmatch(r"[a-z0-9-]+==[^ ]+( ; [a-z0-9_ .<>=\"]+)? \\", line), line
            hashed = False
    assert hashed
