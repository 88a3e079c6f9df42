"""What Prometheus is told: the core's statistics and the shim's own, as families of samples.

Names are those of vLLM, with our own prefix, wherever it has one. Pure: values in, text out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from nsedge.api import (
    FinishReason,
    Health,
    HealthStatus,
    Histogram,
    ModelInfo,
    ModelMemory,
    ModelState,
    ModelStats,
    ModelTimes,
    ResidencyStats,
    Stats,
)
from nsedge.version import VERSION
from nsedge.web.doors.operations.exposition import Page
from nsedge.web.traffic import Traffic

_LAG = ("nsedge_event_loop_lag_seconds", "How late the event loop of a process came round.")
_TIMES = {
    "queue": ("request_queue_time_seconds", "From admission to the first piece of the prompt."),
    "prefill": ("request_prefill_time_seconds", "From there to the first token."),
    "first_token": ("time_to_first_token_seconds", "From admission to the first token."),
    "inter_token": ("inter_token_latency_seconds", "Between two tokens of a request."),
    "request": ("e2e_request_latency_seconds", "From admission to the end, of those ended well."),
    "step": ("engine_step_time_seconds", "A step of the engine."),
}
_PARTS = {"weights": "weights_bytes", "kv": "kv_bytes", "arena": "arena_bytes"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreView:
    """What the core said when it was asked."""

    health: Health
    stats: Stats
    models: tuple[ModelInfo, ...]


def render(core: CoreView | None, *, traffic: Traffic, lag: Histogram) -> str:
    """The page; without the core, what the shim knows alone."""
    page = Page()
    page.gauge("nsedge_build_info", "The release of the shim.").add(1, version=VERSION)
    up = page.gauge("nsedge_core_up", "Whether the core answers.")
    up.add(0 if core is None else 1)
    page.histogram(*_LAG).spread(lag, process="web")
    _tell_traffic(page, traffic)
    if core is not None:
        _tell_core(page, core)
        for name, model in core.stats.models.items():
            _tell_load(page, name, model)
            _tell_work(page, name, model)
            if model.times is not None:
                _tell_times(page, name, model.times)
            if model.memory is not None:
                _tell_memory(page, name, model.memory)
        _tell_states(page, core.models)
    return page.text()


def _tell_traffic(page: Page, traffic: Traffic) -> None:
    page.gauge("nsedge_http_requests_in_progress", "HTTP requests being answered.").add(
        traffic.in_progress
    )
    refused = page.counter(
        "nsedge_http_connections_refused_total", "HTTP connections refused for want of room."
    )
    refused.add(traffic.refused_connections)
    answered = page.counter("nsedge_http_requests_total", "HTTP requests answered.")
    for (route, method, status), count in sorted(traffic.answered.items()):
        answered.add(count, route=route, method=method, status=str(status))


def _tell_core(page: Page, core: CoreView) -> None:
    stats = core.stats
    ready = page.gauge("nsedge_core_ready", "Whether requests are taken.")
    ready.add(int(core.health.status is HealthStatus.READY))
    page.gauge("nsedge_core_uptime_seconds", "Since the core started.").add(stats.uptime_s)
    rss = page.gauge("nsedge_core_resident_memory_bytes", "The core's resident memory.")
    rss.add(stats.rss_bytes)
    accepted = page.counter("nsedge_requests_accepted_total", "Requests that reached an engine.")
    accepted.add(stats.requests_accepted)
    page.counter(
        "nsedge_connections_refused_total", "Connections turned away for want of descriptors."
    ).add(stats.connections_refused)
    failures = page.counter(
        "nsedge_request_failure_total", "Requests that failed, by error code (docs/errors.md)."
    )
    for code, count in stats.failures.items():
        failures.add(count, code=code)
    if stats.loop_lag is not None:
        page.histogram(*_LAG).spread(stats.loop_lag, process="core")
    if stats.residency is not None:
        _tell_residency(page, stats.residency)


def _tell_residency(page: Page, held: ResidencyStats) -> None:
    used = page.gauge("nsedge_memory_used_bytes", "What models claim of the budget.")
    budget = page.gauge("nsedge_memory_budget_bytes", "The budget; absent where there is none.")
    used.add(held.used_bytes, device="host")
    used.add(held.device_used_bytes, device="gpu")
    for device, size in (("host", held.budget_bytes), ("gpu", held.device_budget_bytes)):
        if size is not None:
            budget.add(size, device=device)
    for name, count, meaning in (
        ("loads", held.loads, "Models loaded."),
        ("load_failures", held.load_failures, "Loads that failed."),
        ("evictions", held.evictions, "Models that left memory for another."),
        ("idle_unloads", held.idle_unloads, "Models that left memory since nobody used them."),
        ("preloads", held.guesses, "Models loaded before anybody asked."),
        ("preloads_used", held.guesses_used, "Of those, the ones that somebody then asked for."),
        ("preloads_wasted", held.guesses_wasted, "Of those, the ones that left unused."),
    ):
        page.counter(f"nsedge_model_{name}_total", meaning).add(count)
    if held.load_times is not None:
        page.histogram("nsedge_model_load_time_seconds", "Loads that went well.").spread(
            held.load_times
        )


def _tell_load(page: Page, name: str, model: ModelStats) -> None:
    """How busy a model is."""
    used, capacity = model.kv_tokens_used, model.kv_tokens_capacity
    for metric, value, meaning in (
        ("num_requests_running", model.running, "Requests being generated."),
        ("num_requests_waiting", model.waiting, "Requests in the queue."),
        ("num_request_slots", model.slots, "Requests that can run at once."),
        ("kv_cache_usage_perc", used / capacity if capacity else 0.0, "Of the cache; 1 is full."),
        ("kv_cache_tokens", used, "Tokens in the cache."),
        ("kv_cache_capacity_tokens", capacity, "Tokens that the cache holds."),
    ):
        page.gauge(f"nsedge_{metric}", meaning).add(value, model_name=name)


def _tell_work(page: Page, name: str, model: ModelStats) -> None:
    """What a model has done."""
    for metric, value, meaning in (
        ("texts", model.texts, "Texts that an encoder read."),
        ("images", model.images, "Pictures looked at."),
        ("audio_seconds", model.audio_s, "Sound heard, of requests that ended."),
        ("prompt_tokens", model.prompt_tokens, "Prompt tokens read."),
        ("generation_tokens", model.completion_tokens, "Tokens written."),
        ("prefix_cache_queries", model.prefix_query_tokens, "Tokens looked up in known prefixes."),
        ("prefix_cache_hits", model.prefix_hit_tokens, "Of those, tokens that were ready."),
        ("num_preemptions", model.preemptions, "Times that a batch request gave up its slot."),
    ):
        page.counter(f"nsedge_{metric}_total", meaning).add(value, model_name=name)
    ended = page.counter("nsedge_request_success_total", "Requests ended, by finish reason.")
    for reason in FinishReason:
        ended.add(model.finished.get(reason, 0), model_name=name, finished_reason=reason.value)


def _tell_times(page: Page, name: str, times: ModelTimes) -> None:
    for field in dataclasses.fields(times):
        metric, meaning = _TIMES[field.name]
        page.histogram(f"nsedge_{metric}", meaning).spread(
            getattr(times, field.name), model_name=name
        )


def _tell_memory(page: Page, name: str, held: ModelMemory) -> None:
    memory = page.gauge("nsedge_model_memory_bytes", "What a model holds, measured.")
    for part, field in _PARTS.items():
        memory.add(getattr(held, field), model_name=name, part=part)
    memory.add(held.device_bytes, model_name=name, part="device")
    page.gauge(
        "nsedge_model_kv_reserved_bytes", "What a model's cache takes where every slot is full."
    ).add(held.kv_reserved_bytes, model_name=name)


def _tell_states(page: Page, models: Iterable[ModelInfo]) -> None:
    kinds = page.gauge("nsedge_model_info", "Of which kind a model is; 1.")
    states = page.gauge("nsedge_model_state", "1 for the state that a model is in.")
    took = page.gauge("nsedge_model_last_load_seconds", "How long a model's last load took.")
    for model in models:
        kinds.add(1, model_name=model.name, kind=model.kind)
        for state in ModelState:
            states.add(int(model.state is state), model_name=model.name, state=state.value)
        if model.load_s is not None:
            took.add(model.load_s, model_name=model.name)
