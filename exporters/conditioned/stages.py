"""The stages between a model folder and the graphs of an encoder and a decoder, each kept and not
made twice."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from exporters.bundle.orders import VariantOrder
from exporters.bundle.reference_stages import AnyReferenceStages
from exporters.cache import Cache, Inputs
from exporters.code import code_digest
from exporters.conditioned.records import Form
from exporters.conditioned.samples import Trial
from exporters.conditioned.verdict import Promises
from exporters.errors import Refused
from exporters.model.source import Source
from exporters.quantise.schemes import Device, KvFormat
from nsedge import native
from nsedge.bundle.conditioning import ConditionedVariant, ConditioningVariant
from nsedge.bundle.files import sha256_of

LIBRARIES = ("torch", "transformers", "onnx", "onnxruntime-gpu", "tokenizers")


class ConditionedStages(AnyReferenceStages):
    """The fp32 graphs of a folder, and what they write of golden inputs. samples: the files of
    these, where there are some."""

    def __init__(
        self, source: Source, cache: Cache, *, module: str, samples: Iterable[Path] = ()
    ) -> None:
        super().__init__(source, cache, max_context=None, module=module, libraries=LIBRARIES)
        self._samples = tuple(samples)

    def golden_inputs(self) -> Inputs:
        """What decides the golden samples."""
        return self.figures(self.inputs)

    def figures(self, of: Inputs) -> Inputs:
        """What decides figures of the graphs that `of` decides."""
        return self.measured(of, *self._samples)


class VariantStages(ABC):
    """One variant of such a model."""

    def __init__(
        self,
        reference: ConditionedStages,
        order: VariantOrder,
        *,
        module: str,
        calibration: Iterable[Path] = (),
    ) -> None:
        """module: what does the work of the graphs; that and the files of `calibration` decide
        them, beside the fp32 graphs and the scheme."""
        self.reference = reference
        self.order = order
        self.inputs: Inputs = {
            "reference": reference.cache.key(reference.inputs),
            "scheme": order.scheme.name,
            "calibration": [sha256_of(file) for file in calibration],
            "code": code_digest(module),
        }

    @abstractmethod
    def make(self, folder: Path) -> None:
        """Write the quantised graphs. Raises Refused where the scheme does not fit the model."""

    @abstractmethod
    def measure(self, folder: Path, *, native_form: bool) -> None:
        """Write how near a form of the graphs is to fp32."""

    @abstractmethod
    def read_trial(self, folder: Path) -> Trial[Any]:
        """What `measure` wrote."""

    @abstractmethod
    def variants(self, *, native_form: bool) -> tuple[ConditioningVariant, ConditionedVariant]:
        """How a form of the graphs is run in a bundle."""

    @cached_property
    def folder(self) -> Path:
        """The directory of the quantised graphs; that of the fp32 graphs, where these are wanted.

        Raises:
            Refused: the scheme does not fit the model.
        """
        if self.order.is_reference:
            return self.reference.folder
        title = f"Making {self.order.name}"
        return self.reference.cache.get("variant", self.inputs, title=title, make=self.make)

    def forms(self) -> Iterator[Form[Any, Any]]:
        """The forms of the variant, the faster one first: on the daemon's own operators, where it
        is quantised and they run here."""
        has_native = not self.order.is_reference and native.why_not() is None
        for native_form in (True, False) if has_native else (False,):
            encoder, decoder = self.variants(native_form=native_form)
            trial = self._trial(native_form=native_form)
            yield Form(encoder=encoder, decoder=decoder, trial=trial)

    def _trial(self, *, native_form: bool) -> Trial[Any]:
        """How near a form is to fp32."""
        reference = self.reference
        of = reference.inputs if self.order.is_reference else self.inputs
        inputs: dict[str, object] = dict(reference.figures(of))
        if native_form:
            inputs["operators"] = native.source_digest()
        title = f"Comparing {self.order.name} with fp32"
        kept = reference.cache.get(
            "trial",
            inputs,
            title=title,
            make=lambda folder: self.measure(folder, native_form=native_form),
        )
        return self.read_trial(kept)


def check_orders(orders: Iterable[VariantOrder], promises: Promises, *, models: str) -> None:
    """Refuse variants that `models`, such as "speech models", do not have.

    Raises:
        Refused: naming the option.
    """
    for order in orders:
        if order.scheme.name not in promises:
            known = ", ".join(promises)
            raise Refused(f"--scheme {order.scheme.name}: {models} have {known}")
        if order.kv is not KvFormat.FLOAT32:
            raise Refused(f"--kv {order.kv.value}: each form of {models} has its own")
        if order.device is not Device.CPU:
            raise Refused(f"--device {order.device.value}: {models} are exported for the CPU")


def folders_of(stages: Iterable[VariantStages]) -> Mapping[str, Path]:
    """The directories of graphs, by variant."""
    return {one.order.name: one.folder for one in stages}
