"""Where training runs, in which numbers, and on how many threads."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from exporters.errors import ExportError
from nsedge.runtime.machine.cores import CpuMeter, usable_cores


class DeviceWish(StrEnum):
    """What the user asks for."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Precision(StrEnum):
    """The numbers of the base's weights and products; the adapter itself is kept in fp32."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"


@dataclass(frozen=True, kw_only=True)
class Place:
    """A device with its precision, as torch calls them."""

    device: str
    precision: Precision
    name: str

    @property
    def dtype(self) -> Any:
        """Of the base's weights."""
        import torch  # only when there is work

        return torch.bfloat16 if self.narrow else torch.float32

    @property
    def narrow(self) -> bool:
        """Whether products are taken in bf16."""
        return self.precision is Precision.BF16

    def told(self) -> str:
        """In words."""
        return f"{self.name}, {self.precision.value}"


def choose_place(device: DeviceWish, precision: Precision) -> Place:
    """A GPU where there is one, and bf16 where that GPU has it; fp32 on a CPU.

    Raises:
        ExportError: what is asked for is not there.
    """
    import torch  # only when there is work

    there = torch.cuda.is_available()
    if device is DeviceWish.CUDA and not there:
        raise ExportError(
            "--device cuda: torch sees no CUDA device"
            + ("" if torch.version.cuda else " (it is a build for the CPU only)")
            + "; --device cpu trains without one"
        )
    if device is DeviceWish.CPU or not there:
        fp32 = precision is Precision.AUTO
        return Place(device="cpu", precision=Precision.FP32 if fp32 else precision, name="CPU")
    able = torch.cuda.is_bf16_supported()
    name = torch.cuda.get_device_name()
    if precision is Precision.BF16 and not able:
        raise ExportError(f"--precision bf16: {name} does not have it; fp32 works")
    chosen = precision
    if precision is Precision.AUTO:
        chosen = Precision.BF16 if able else Precision.FP32
    return Place(device="cuda", precision=chosen, name=f"CUDA ({name})")


def threads_free(meter: CpuMeter) -> int:
    """Threads for as many cores as others left to this process since the meter was last asked."""
    return max(1, min(usable_cores(), int(meter.free() + 0.5)))
