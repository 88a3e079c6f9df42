"""The stages of an fp32 graph that all kinds of models have: the graph, its golden samples, and
what decides figures of graphs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from exporters.cache import Cache, Inputs, folder_digest
from exporters.code import code_digest
from exporters.model.route import library_versions
from exporters.model.source import Source
from nsedge.bundle.files import sha256_of


class AnyReferenceStages(ABC):
    """The fp32 graph of a model folder, and what it makes of golden texts."""

    golden_title: str
    golden_texts: Path
    trial_module: str
    """What does the work of measuring."""

    def __init__(
        self,
        source: Source,
        cache: Cache,
        *,
        max_context: int | None,
        module: str,
        libraries: Iterable[str],
    ) -> None:
        """module: what does the work of the graph; that and `libraries` decide it, beside the
        folder."""
        self.source = source
        self.cache = cache
        self.inputs: Inputs = {
            "folder": folder_digest(source.folder),
            "tokenizer": sha256_of(source.tokenizer_file),
            "max_context": max_context,
            "code": code_digest(module),
            "libraries": library_versions(libraries),
        }

    @abstractmethod
    def make(self, folder: Path) -> None:
        """Write the fp32 graph. Raises Refused where the model cannot be exported."""

    @abstractmethod
    def make_golden(self, folder: Path) -> None:
        """Write what the fp32 graph makes of the golden texts."""

    @cached_property
    def folder(self) -> Path:
        """The directory of the fp32 graph.

        Raises:
            Refused: the model cannot be exported.
        """
        title = f"Exporting {self.source.origin} to ONNX in fp32"
        return self.cache.get("reference", self.inputs, title=title, make=self.make)

    def golden_folder(self) -> Path:
        """The directory of what the fp32 graph makes of the golden texts."""
        inputs = self.golden_inputs()
        return self.cache.get("golden", inputs, title=self.golden_title, make=self.make_golden)

    def golden_inputs(self) -> Inputs:
        """What decides the golden samples."""
        return self.measured(self.inputs, self.golden_texts)

    def measured(self, of: Inputs, *texts: Path) -> Inputs:
        """What decides figures of the graph that `of` decides, over these texts."""
        hashes = [sha256_of(text) for text in texts]
        return {"of": self.cache.key(of), "code": code_digest(self.trial_module), "text": hashes}
