"""A digest of code changes with whatever the code imports, and with nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporters.bundle.stages import SCALES_MODULE, TRIAL_MODULE, VARIANT_MODULE
from exporters.code import PACKAGES, WITHOUT_EFFECT, SourceTree, code_digest
from exporters.trace.route import TRACED

ROOT = Path(__file__).parents[3]
FILES = {
    "house/__init__.py": "",
    "house/work.py": "import json\nfrom house.first import step\ndef make(): return step()\n",
    "house/first.py": "from house.second import value\ndef step(): return value\n",
    "house/second.py": "value = 2\n",
    "house/apart.py": "value = 3\n",
    "house/late.py": "def make():\n    from house import second\n    return second.value\n",
    "house/errors.py": "from house import apart\n",
    "house/quiet.py": "import house.errors\n",
    "house/typed.py": (
        "import typing\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from house.first import step\n"
        "elif typing.TYPE_CHECKING:\n    import house.first\n"
        "else:\n    import house.apart\n"
    ),
    "house/room/__init__.py": "from . import bed\nfrom .. import second\n",
    "house/room/bed.py": "from .chair import seat\n",
    "house/room/chair.py": "seat = 1\n",
    "house/guest.py": "import house.room.chair\n",
    "house/front/__init__.py": (
        '"""Two rooms."""\n'
        "from . import hall\n"
        "from house.front.hall import lamp as light\n"
        "from .cellar import coal\n"
        '__all__ = ["coal", "hall", "light"]\n'
    ),
    "house/front/hall.py": "lamp = 1\n",
    "house/front/cellar.py": "import house.second\ncoal = 1\n",
    "house/lit.py": "from house.front import light\n",
    "house/led.py": "from house.front import hall\n",
    "house/warm.py": "from house import front\nfront.coal\n",
    "house/lost.py": "from house.front import stairs\n",
    "other/__init__.py": "",
    "other/thing.py": "import house.second\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def tree(root: Path) -> SourceTree:
    return SourceTree(root, ["house"], without_effect=["house.errors"])


@pytest.mark.parametrize(
    ("module", "wanted"),
    [
        ("work", {"work", "first", "second"}),
        ("late", {"late", "second"}),
        ("typed", {"typed", "apart"}),
        ("quiet", {"quiet"}),
        ("guest", {"guest", "room", "room.bed", "room.chair", "second"}),
        ("lit", {"lit", "front.hall"}),
        ("led", {"led", "front.hall"}),
        ("warm", {"warm", "front", "front.hall", "front.cellar", "second"}),
        ("lost", {"lost", "front", "front.hall", "front.cellar", "second"}),
    ],
)
def test_behind_a_module_is_all_that_it_imports(root: Path, module: str, wanted: set[str]) -> None:
    found = tree(root).behind(f"house.{module}")
    assert found == {"house", *(f"house.{name}" for name in wanted)}


def test_several_modules_are_taken_together(root: Path) -> None:
    both = tree(root).behind("house.late", "house.apart")
    assert both == {"house", "house.late", "house.second", "house.apart"}


@pytest.mark.parametrize("name", ["second", "first", "work", "__init__"])
def test_a_change_however_many_steps_away_changes_the_digest(root: Path, name: str) -> None:
    before = tree(root).digest("house.work")
    with (root / "house" / f"{name}.py").open("a") as file:
        file.write("changed = True\n")
    assert tree(root).digest("house.work") != before


def test_what_is_not_imported_changes_nothing(root: Path) -> None:
    before = tree(root).digest("house.work")
    for path in (root / "house" / "apart.py", root / "other" / "thing.py"):
        path.write_text("changed = True\n")
    assert tree(root).digest("house.work") == before


def test_a_module_by_another_name_changes_the_digest(root: Path) -> None:
    before = tree(root).digest("house.work")
    (root / "house" / "second.py").rename(root / "house" / "third.py")
    first = root / "house" / "first.py"
    first.write_text(first.read_text().replace("second", "third"))
    assert tree(root).digest("house.work") != before


def test_comments_and_docstrings_change_nothing(root: Path) -> None:
    before = tree(root).digest("house.work")
    told = '"""Of two."""\n\nvalue = 2  # not three\n"""Two."""\n'
    (root / "house" / "second.py").write_text(told)
    assert tree(root).digest("house.work") == before


def test_a_module_that_is_not_there_is_named(root: Path) -> None:
    with pytest.raises(LookupError, match=r"no module house\.nothing below"):
        tree(root).digest("house.nothing")
    with pytest.raises(LookupError, match=r"no module json below"):
        tree(root).digest("json")


@pytest.mark.parametrize(
    ("module", "wanted"),
    [
        (TRACED.module, {"exporters.trace.decoder_export", "exporters.graph.fold"}),
        (VARIANT_MODULE, {"exporters.measure.fidelity", "exporters.graph.fold"}),
        (SCALES_MODULE, {"exporters.measure.runner", "nsedge.native"}),
        (TRIAL_MODULE, {"exporters.measure.runner", "exporters.model.source"}),
        ("exporters.finetune.dataset", {"nsedge.runtime.text.template"}),
    ],
)
def test_the_projects_own_results_depend_on_what_makes_them(module: str, wanted: set[str]) -> None:
    found = SourceTree(ROOT, PACKAGES, without_effect=WITHOUT_EFFECT).behind(module)
    assert wanted <= found
    assert not found & WITHOUT_EFFECT
    assert len(code_digest(module)) == 64


@pytest.mark.parametrize(
    "module", [TRACED.module, VARIANT_MODULE, TRIAL_MODULE, "exporters.bundle.starter_folder"]
)
def test_what_clients_ask_of_the_daemon_makes_no_result_anew(module: str) -> None:
    """A manifest's defaults are held to the bounds of a request's sampling, and to no more."""
    found = SourceTree(ROOT, PACKAGES, without_effect=WITHOUT_EFFECT).behind(module)
    asked = ("requests", "events", "models", "service", "tasks", "scheduling", "messages")
    assert "nsedge.api.sampling" in found
    assert not found & {"nsedge.api", "nsedge.runtime.text.prompt"}
    assert not found & {f"nsedge.api.{name}" for name in asked}


def test_what_has_no_effect_is_there() -> None:
    paths = [ROOT / f"{name.replace('.', '/')}.py" for name in WITHOUT_EFFECT]
    assert [path for path in paths if not path.is_file()] == []
