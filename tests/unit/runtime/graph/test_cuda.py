"""What can be known of the CUDA path without a GPU: its memory and bindings, over the CPU's."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from exporters.errors import Refused
from exporters.graph.half import halve
from exporters.measure.runner import Runner, log_softmax
from nsedge.bundle.causal_lm import GraphIo, KvLayout, Variant
from nsedge.errors import DeviceUnavailable
from nsedge.runtime.decode.plan import Chunk, KvCopy, KvSwap, StepPlan
from nsedge.runtime.decode.sequence import Limits, Sequence, State
from nsedge.runtime.graph import cuda, executor, session
from nsedge.runtime.graph.binding import Device, HostDevice
from nsedge.runtime.graph.cuda import CUDA, CudaDevice
from nsedge.runtime.graph.executor import Executor, Source
from nsedge.runtime.graph.executors import open_executor
from nsedge.runtime.hosting.variants import choose_variant
from nsedge.runtime.settings import Device as Wanted
from tests.unit.tiny_decoder import IO, LAYOUT, VOCABULARY, save, tiny_graph

IDS = tuple(int(i) for i in np.random.default_rng(9).integers(0, VOCABULARY, 24))
CAPACITY = 64
SLOTS = 3


class HostCopier:
    """What the GPU's copier does, in host memory; counts how often it was waited for."""

    def __init__(self) -> None:
        self.begun = 0
        self.waited = 0

    def copy(self, target: int, source: int, *, pitch: int, width: int, height: int) -> None:
        self.begun += 1
        for piece in range(height):
            ctypes.memmove(target + piece * pitch, source + piece * pitch, width)

    def clear(self, target: int, *, pitch: int, width: int, height: int) -> None:
        self.begun += 1
        for piece in range(height):
            ctypes.memset(target + piece * pitch, 0, width)

    def wait(self) -> None:
        self.waited += 1


def gpu_like(copier: HostCopier | None = None, *, captures: bool = False) -> CudaDevice:
    return CudaDevice(captures=captures, place="cpu", copier=copier or HostCopier())


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, KvLayout]:
    """The decoder in float16, and the layout of its cache."""
    graph = tiny_graph()
    layout = halve(graph, io=IO, kv=LAYOUT)
    return save(graph, tmp_path_factory.mktemp("half")), layout


def on(device: Device, half: tuple[Path, KvLayout], monkeypatch: pytest.MonkeyPatch) -> Executor:
    graph, layout = half
    monkeypatch.setattr(executor, "device_of", lambda name, captures: device)
    return open_executor(
        Source(
            graph=graph,
            variant=Variant(name="v", device="cpu", scheme="fp32", graph="g", io=IO, kv=layout),
            vocab_size=VOCABULARY,
            slots=SLOTS,
            capacity=CAPACITY,
            threads=1,
        )
    )


def play(runner: Executor) -> list[NDArray[np.float32]]:
    """Two prompts, rows that change places, a prefix used again, and tokens in company."""
    sequences = [
        Sequence(prompt_ids=IDS[i:], limits=Limits(max_tokens=9), submitted_s=0.0) for i in (0, 5)
    ]
    seen = []
    for row, sequence in enumerate(sequences):
        sequence.move(State.PREFILL)
        sequence.row = row
        length = len(sequence.prompt_ids)
        chunks = (Chunk(sequence, row, 0, 8), Chunk(sequence, row, 8, length))
        seen.append(runner.run(StepPlan((), chunks, ())).array.copy())
        sequence.kv_length = length
        sequence.output_ids.append(3 + row)
    for row, sequence in enumerate(reversed(sequences)):
        sequence.move(State.RUNNING)
        sequence.row = row
    again = Sequence(prompt_ids=IDS, limits=Limits(max_tokens=9), submitted_s=0.0)
    again.move(State.PREFILL)
    runner.copy((KvCopy(0, 2, 6), KvCopy(0, 2, 20, shared=6), KvSwap(0, 1, len(IDS))))
    chunk = Chunk(again, 2, 20, len(IDS))
    seen.append(runner.run(StepPlan((), (chunk,), tuple(reversed(sequences)))).array.copy())
    return seen


def test_the_same_comes_out_as_from_the_cpus_own_memory(
    half: tuple[Path, KvLayout], monkeypatch: pytest.MonkeyPatch
) -> None:
    copier = HostCopier()
    wanted = play(on(HostDevice(), half, monkeypatch))
    got = play(on(gpu_like(copier), half, monkeypatch))
    assert len(wanted) == len(got) == 3
    for a, b in zip(wanted, got, strict=True):
        np.testing.assert_array_equal(a, b)
    # Two copies and the three of an exchange, of the keys and the values of every layer.
    assert copier.begun == 5 * 2 * LAYOUT.layers
    assert copier.waited == 3


def test_a_row_is_cleared_and_no_other(
    half: tuple[Path, KvLayout], monkeypatch: pytest.MonkeyPatch
) -> None:
    copier = HostCopier()
    runner = on(gpu_like(copier), half, monkeypatch)
    wanted = play(runner)[-1]
    before = copier.waited
    runner.clear(1, 10_000)
    assert copier.waited == before + 1
    values = [value.numpy() for value in runner._kv._values]  # type: ignore[attr-defined]
    assert not any(value[1].any() for value in values)
    assert all(value[row].any() for value in values for row in (0, 2))
    np.testing.assert_array_equal(play(runner)[-1], wanted)


def test_a_capturing_device_feeds_the_greatest_total(
    half: tuple[Path, KvLayout], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attention must not care that the total is the capacity, which is what is captured."""
    plain = play(on(HostDevice(), half, monkeypatch))
    runner = on(gpu_like(captures=True), half, monkeypatch)
    runner._fixed_total = CAPACITY
    for a, b in zip(plain, play(runner), strict=True):
        np.testing.assert_array_equal(a, b)


def test_half_precision_is_near_single(half: tuple[Path, KvLayout], tmp_path: Path) -> None:
    exact = Runner(save(tiny_graph(), tmp_path), io=IO, kv=LAYOUT, capacity=CAPACITY)
    halved = Runner(half[0], io=IO, kv=half[1], capacity=CAPACITY)
    wanted, got = exact.log_probs(list(IDS)), halved.log_probs(list(IDS))
    assert got.dtype == np.float32
    assert half[1].dtype == "float16"
    difference = float((np.exp(wanted) * (wanted - got)).sum(-1).mean())
    assert 0 < difference < 1e-3
    assert np.allclose(log_softmax(wanted), wanted, atol=1e-4)


def test_what_has_no_half_form_is_refused() -> None:
    graph = tiny_graph()
    graph.weights["head"] = graph.weights["head"] * np.float32(1e6)
    with pytest.raises(Refused, match="beyond float16"):
        halve(graph, io=IO, kv=LAYOUT)
    with pytest.raises(Refused, match="positions"):
        halve(tiny_graph(), io=GraphIo(position_ids="position_ids"), kv=LAYOUT)


def variant(name: str, device: str) -> Variant:
    return Variant(name=name, device=device, scheme="fp32", graph="g", io=IO, kv=LAYOUT)


BOTH = (variant("on-gpu", CUDA), variant("on-cpu", "cpu"))


def test_a_variant_for_a_gpu_is_chosen_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "available_providers", lambda: ("CUDAExecutionProvider",))
    monkeypatch.setattr(cuda, "device_count", lambda: 1)
    assert choose_variant(BOTH, Wanted.AUTO, "m").name == "on-gpu"
    assert choose_variant(BOTH, Wanted.CUDA, "m").name == "on-gpu"


def test_without_a_gpu_none_is_chosen_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "device_count", lambda: 0)
    assert choose_variant(BOTH, Wanted.AUTO, "m").name == "on-cpu"
    with pytest.raises(DeviceUnavailable, match="no variant of m runs on device 'cuda'"):
        choose_variant(BOTH, Wanted.CUDA, "m")


def test_a_session_on_a_gpu_that_is_not_there_says_which_provider_it_needs(
    half: tuple[Path, KvLayout], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "device_count", lambda: 0)
    with pytest.raises(DeviceUnavailable, match=r"CUDAExecutionProvider") as raised:
        session.open_session(half[0], CUDA, 1)
    assert str(half[0]) in str(raised.value)


def test_a_build_without_the_provider_says_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "available_providers", lambda: ("CPUExecutionProvider",))
    assert session.why_not(CUDA) == (
        "ONNX Runtime offers CPUExecutionProvider here, not CUDAExecutionProvider"
    )
    assert session.why_not("cpu") is None


def test_without_a_driver_there_is_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "DRIVER", "libno-such-driver.so")
    assert cuda.device_count() == 0


def test_without_cudas_library_the_device_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "RUNTIMES", ("libno-such-runtime.so",))
    with pytest.raises(DeviceUnavailable, match=r"libno-such-runtime\.so"):
        CudaDevice(captures=False)
