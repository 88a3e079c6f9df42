"""Keys, values and bindings in the memory of an NVIDIA GPU. Not run on one yet: docs/hardware.md.

ONNX Runtime copies an input to the GPU when it is bound, not when it is run, so that a binding that
is run again writes its inputs there itself. CUDA's own library copies rows of the cache: between
two runs, each of which ends synchronised.
"""

from __future__ import annotations

import ctypes
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from nsedge.bundle.causal_lm import KvLayout
from nsedge.errors import DeviceUnavailable
from nsedge.runtime.graph.binding import bind
from nsedge.runtime.graph.kv import KvBytes, View, host_view

CUDA = "cuda"
DRIVER = "libcuda.so.1"
RUNTIMES = ("libcudart.so.13", "libcudart.so.12")
"""CUDA's library, by the releases that builds of ONNX Runtime are made for."""
DEVICE_TO_DEVICE = 3
"""cudaMemcpyDeviceToDevice."""
NO_GRAPH = -1
"""The graph id that asks ONNX Runtime for an ordinary run."""


def device_count() -> int:
    """NVIDIA GPUs that the driver offers; 0 where there is no driver."""
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def provider_settings(*, captures: bool) -> dict[str, str]:
    """What ONNX Runtime's provider is opened with: the first GPU, and memory as it is needed."""
    return {
        "device_id": "0",
        "arena_extend_strategy": "kSameAsRequested",
        "enable_cuda_graph": str(int(captures)),
    }


class Copier(Protocol):
    """Copies between places of one memory, and writes zeros there."""

    def copy(self, target: int, source: int, *, pitch: int, width: int, height: int) -> None:
        """Begin to copy `height` pieces of `width` bytes, each `pitch` bytes after the last."""
        ...

    def clear(self, target: int, *, pitch: int, width: int, height: int) -> None:
        """Begin to write zeros to `height` pieces of `width` bytes, each `pitch` after the last."""
        ...

    def wait(self) -> None:
        """Return when all of it is done."""
        ...


class CudaCopier:
    """Copies between places of the GPU's memory."""

    def __init__(self) -> None:
        """Raises DeviceUnavailable where CUDA's library is not to be had."""
        self._library = _open_runtime()
        self._library.cudaGetErrorString.restype = ctypes.c_char_p

    def copy(self, target: int, source: int, *, pitch: int, width: int, height: int) -> None:
        """Begin to copy `height` pieces of `width` bytes, each `pitch` bytes after the last."""
        self._check(
            self._library.cudaMemcpy2D(
                ctypes.c_void_p(target),
                ctypes.c_size_t(pitch),
                ctypes.c_void_p(source),
                ctypes.c_size_t(pitch),
                ctypes.c_size_t(width),
                ctypes.c_size_t(height),
                ctypes.c_int(DEVICE_TO_DEVICE),
            )
        )

    def clear(self, target: int, *, pitch: int, width: int, height: int) -> None:
        """Begin to write zeros to `height` pieces of `width` bytes, each `pitch` after the last."""
        self._check(
            self._library.cudaMemset2D(
                ctypes.c_void_p(target),
                ctypes.c_size_t(pitch),
                ctypes.c_int(0),
                ctypes.c_size_t(width),
                ctypes.c_size_t(height),
            )
        )

    def wait(self) -> None:
        """Return when all of it is done: the runs that follow use another stream."""
        self._check(self._library.cudaDeviceSynchronize())

    def _check(self, status: int) -> None:
        if status != 0:
            text = self._library.cudaGetErrorString(status).decode()
            raise RuntimeError(f"CUDA could not copy keys and values: {text}")


def _open_runtime() -> Any:
    for name in RUNTIMES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise DeviceUnavailable(f"CUDA's library is missing: none of {', '.join(RUNTIMES)}")


class Rows:
    """Where each row of one tensor `[rows, heads, capacity, head_dim]` lies."""

    def __init__(self, whole: View) -> None:
        self._whole = whole
        _, self._heads, capacity, head_dim = whole.shape
        self._token_bytes = head_dim * np.dtype(whole.dtype).itemsize
        self._head_bytes = capacity * self._token_bytes

    @property
    def bytes(self) -> int:
        """The whole tensor's size."""
        return self._whole.shape[0] * self._heads * self._head_bytes

    def view(self, first: int, rows: int) -> View:
        """`rows` rows from `first` on."""
        shape = (rows, *self._whole.shape[1:])
        return View(self._whole.device, self._whole.dtype, shape, self._at(first))

    def copy(self, copier: Copier, source: int, target: int, tokens: int, shared: int) -> None:
        """Begin to copy the first `tokens` tokens of a row, without the first `shared` of them."""
        skipped = shared * self._token_bytes
        copier.copy(
            self._at(target) + skipped,
            self._at(source) + skipped,
            pitch=self._head_bytes,
            width=tokens * self._token_bytes - skipped,
            height=self._heads,
        )

    def clear(self, copier: Copier, row: int, tokens: int) -> None:
        """Begin to write zeros in the place of a row's first `tokens` tokens."""
        copier.clear(
            self._at(row),
            pitch=self._head_bytes,
            width=tokens * self._token_bytes,
            height=self._heads,
        )

    def _at(self, row: int) -> int:
        return self._whole.address + row * self._heads * self._head_bytes


class CudaKv:
    """A cache in the GPU's memory, taken whole when it is made."""

    def __init__(
        self, layout: KvLayout, *, rows: int, capacity: int, place: str, copier: Copier
    ) -> None:
        self._copier = copier
        self._spare = rows
        # Zeros, since what was there before may be no number; a row more to exchange two through.
        shape = (rows + 1, layout.heads, capacity, layout.head_dim)
        zeros = np.zeros(shape, layout.dtype)
        self._values = [_filled(zeros, place) for _ in range(2 * layout.layers)]
        self._tensors = [
            Rows(View(place, zeros.dtype.type, shape, value.data_ptr())) for value in self._values
        ]

    def views(self, first: int, rows: int) -> list[tuple[View, View]]:
        """Keys and values of `rows` rows from `first` on, layer by layer."""
        parts = [tensor.view(first, rows) for tensor in self._tensors]
        return list(zip(parts[0::2], parts[1::2], strict=True))

    def copy(self, source: int, target: int, tokens: int, *, shared: int = 0) -> None:
        """Copy a row's first `tokens` tokens to another row, but for the `shared` ones."""
        self._copy((source, target), tokens=tokens, shared=shared)

    def swap(self, first: int, second: int, tokens: int) -> None:
        """Exchange the first `tokens` tokens of two rows."""
        moves = (first, self._spare), (second, first), (self._spare, second)
        self._copy(*moves, tokens=tokens)

    def clear(self, row: int, tokens: int) -> None:
        """Write zeros in the place of a row's first `tokens` tokens."""
        for tensor in self._tensors:
            tensor.clear(self._copier, row, tokens)
        self._copier.wait()

    def held(self) -> KvBytes:
        """All of it, from the beginning."""
        size = sum(tensor.bytes for tensor in self._tensors)
        return KvBytes(resident=0, reserved=size, device=size)

    def forget(self) -> None:
        """Nothing: a GPU's memory is not taken page by page."""

    def _copy(self, *moves: tuple[int, int], tokens: int, shared: int = 0) -> None:
        for source, target in moves:
            for tensor in self._tensors:
                tensor.copy(self._copier, source, target, tokens, shared)
        self._copier.wait()


def _filled(array: NDArray[Any], place: str) -> Any:
    """A tensor of its own in the memory `place`, with what `array` holds."""
    value = ort.OrtValue.ortvalue_from_shape_and_type(array.shape, array.dtype, place, 0)
    value.update_inplace(array)
    return value


class CudaDevice:
    """The first GPU."""

    def __init__(self, *, captures: bool, place: str = CUDA, copier: Copier | None = None) -> None:
        """`captures` replays decoding runs as CUDA graphs, one for each number of rows.

        `place` is the memory that ONNX Runtime takes, `copier` what copies in it.

        Raises:
            DeviceUnavailable: where CUDA's library is not to be had.
        """
        self._captures = captures
        self._place = place
        self._copier = copier or CudaCopier()

    def memory(self, layout: KvLayout, *, rows: int, capacity: int) -> CudaKv:
        """An empty cache."""
        return CudaKv(layout, rows=rows, capacity=capacity, place=self._place, copier=self._copier)

    def binding(self, session: Any, *, repeats: int | None = None) -> CudaBinding:
        """A binding to run once, or again and again under a number of its own."""
        if not self._captures:
            return CudaBinding(session, place=self._place)
        graph = NO_GRAPH if repeats is None else repeats
        return CudaBinding(session, place=self._place, graph=graph)


class CudaBinding:
    """A binding whose inputs and outputs have fixed places on the GPU.

    `graph` is the number that its runs are captured and replayed under, or NO_GRAPH; None where the
    session was opened without graphs.
    """

    def __init__(self, session: Any, *, place: str, graph: int | None = None) -> None:
        self._session = session
        self._place = place
        self._binding = session.io_binding()
        self._options = ort.RunOptions()
        if graph is not None:
            self._options.add_run_config_entry("gpu_graph_id", str(graph))
        self._fed: list[tuple[Any, NDArray[Any]]] = []
        self._fetched: list[tuple[Any, NDArray[Any]]] = []
        self._hosted: list[NDArray[Any]] = []

    def feed(self, name: str, array: NDArray[Any]) -> None:
        """Let the graph read `array`, as it is when the graph is run."""
        value = _filled(array, self._place)
        self._binding.bind_ortvalue_input(name, value)
        self._fed.append((value, array))

    def feed_host(self, name: str, array: NDArray[Any]) -> None:
        """Let the graph read `array` where it is, in host memory."""
        self._hosted.append(array)
        bind(self._binding.bind_input, name, host_view(array))

    def fetch(self, name: str, array: NDArray[Any]) -> None:
        """Let the graph write to `array`, by way of the GPU's memory."""
        value = ort.OrtValue.ortvalue_from_shape_and_type(array.shape, array.dtype, self._place, 0)
        self._binding.bind_ortvalue_output(name, value)
        self._fetched.append((value, array))

    def place(self, past: str, present: str, view: View) -> None:
        """Let the graph extend `view` in place."""
        bind(self._binding.bind_input, past, view)
        bind(self._binding.bind_output, present, view)

    def show(self, name: str, view: View) -> None:
        """Let the graph read `view`."""
        bind(self._binding.bind_input, name, view)

    def give(self, name: str, view: View) -> None:
        """Let the graph write to `view`."""
        bind(self._binding.bind_output, name, view)

    def run(self) -> None:
        """Run the graph, and wait for its outputs."""
        for value, array in self._fed:
            value.update_inplace(array)
        self._session.run_with_iobinding(self._binding, self._options)
        for value, array in self._fetched:
            array[...] = value.numpy()
