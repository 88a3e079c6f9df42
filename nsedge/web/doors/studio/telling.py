"""The studio's routes for models, figures and ratings."""

from __future__ import annotations

import asyncio
import datetime

from aiohttp import web

from nsedge.api import LoadWish, ModelInfo, ModelState, ModelUsage, Priority
from nsedge.errors import NsedgeError
from nsedge.security.keyring import Scope
from nsedge.web.access import needs
from nsedge.web.answering import ANSWERING
from nsedge.web.bodies import gives, json_answer, read_json, takes
from nsedge.web.doors.studio.bodies import OTHERS, PreloadBody, RatingBody
from nsedge.web.doors.studio.shapes import (
    Activity,
    BatchStats,
    ModelList,
    ModelObject,
    ModelStats,
    PreloadAnswer,
    Preloaded,
    Rated,
    StreamStats,
    StudioStats,
    UsageObject,
    UsageStats,
)
from nsedge.web.doors.studio.studio import STUDIO

RECENT = 10
"""Ideas that the figures name."""
_PRIORITIES = {"high": Priority.INTERACTIVE, "normal": Priority.NORMAL, "low": Priority.BATCH}


@needs(Scope.READ)
@gives(ModelList)
async def list_models(http: web.Request) -> web.Response:
    """`GET /api/v1/models`: all models, with their states."""
    answering = http.app[ANSWERING]
    models = await answering.ask(answering.service.models())
    return json_answer(ModelList(models=[_told(one) for one in models], total=len(models)))


@needs(Scope.MANAGE)
@takes(PreloadBody, OTHERS)
@gives(PreloadAnswer)
async def preload(http: web.Request) -> web.Response:
    """`POST /api/v1/models/preload`: several models, each with its own result."""
    body = await read_json(http, PreloadBody, OTHERS)
    service, priority = http.app[ANSWERING].service, _PRIORITIES[body.priority]

    async def one(name: str) -> Preloaded:
        try:
            loaded = await service.load(LoadWish(model=name, priority=priority))
        except NsedgeError as error:
            return {"model": name, "success": False, "status": "failed", "error": error.message}
        return {"model": name, "success": True, "status": loaded.outcome.value}

    results = await asyncio.gather(*map(one, body.model_keys))
    there = sum(result["success"] for result in results)
    message = f"{there} of {len(results)} models are loaded"
    return json_answer(PreloadAnswer(message=message, results=results, priority=body.priority))


@needs(Scope.READ)
@gives(UsageStats)
async def usage_stats(http: web.Request) -> web.Response:
    """`GET /api/v1/models/usage-stats`: how models were used, and which are worth loading."""
    answering = http.app[ANSWERING]
    report = await answering.ask(answering.service.usage())
    return json_answer(
        UsageStats(
            usage_stats={name: _used(usage) for name, usage in report.models.items()},
            intelligent_preload_enabled=report.preload_top > 0,
            preload_recommendations=[
                (one.model, {"priority_score": one.priority_score})
                for one in report.recommendations
            ],
        )
    )


@needs(Scope.READ)
@gives(StudioStats)
async def stats(http: web.Request) -> web.Response:
    """`GET /api/v1/stats`: ideas, models, streams and batches in figures."""
    answering, studio = http.app[ANSWERING], http.app[STUDIO]
    models = await answering.ask(answering.service.models())
    ready = [model.name for model in models if model.state is ModelState.READY]
    recent = [
        Activity(
            id=idea.id,
            category=idea.category,
            model_used=idea.model,
            created_at=_iso(idea.at_s),
            rating=idea.rating,
        )
        for idea in studio.ideas.latest(RECENT)
    ]
    batches = {method: studio.batches[method] for method in ("model_batch", "parallel_batch")}
    return json_answer(
        StudioStats(
            total_ideas=studio.ideas.total,
            categories=studio.ideas.categories,
            average_rating=studio.ideas.average_rating,
            recent_activity=recent,
            model_stats=ModelStats(
                total_models=len(models),
                available_models=sum(one.state is not ModelState.FAILED for one in models),
                loaded_models=len(ready),
                current_model=studio.last_model or next(iter(ready), None),
            ),
            streaming_stats=StreamStats(
                active_sessions=studio.active_sessions,
                total_streaming_requests=studio.streams,
                average_streaming_time=studio.average_stream_s,
            ),
            batch_stats=BatchStats(
                total_batch_requests=sum(batches.values()),
                batch_methods=batches,
                parallel_processing_enabled=True,
            ),
        )
    )


@needs(Scope.INFER)
@takes(RatingBody, OTHERS)
@gives(Rated, refuses=("unknown_idea",), asks_core=False)
async def rate(http: web.Request) -> web.Response:
    """`POST /api/v1/ideas/{idea_id}/rating`: 1 to 5 stars for one of the latest ideas."""
    body, ideas = await read_json(http, RatingBody, OTHERS), http.app[STUDIO].ideas
    idea_id = http.match_info["idea_id"]
    ideas.rate(idea_id, body.rating)
    return json_answer(
        Rated(idea_id=idea_id, rating=body.rating, average_rating=ideas.average_rating)
    )


def _told(model: ModelInfo) -> ModelObject:
    return {
        "key": model.name,
        "state": model.state.value,
        "loaded": model.state is ModelState.READY,
        "kind": model.kind,
        "tasks": model.tasks,
        "aliases": model.aliases,
        "context_tokens": model.context_tokens,
        "error": model.error,
    }


def _used(usage: ModelUsage) -> UsageObject:
    average_s = usage.total_s / usage.usage_count if usage.usage_count else 0.0
    return {
        "usage_count": usage.usage_count,
        "total_time": round(usage.total_s, 6),
        "average_time": round(average_s, 6),
        "last_used": _iso(usage.last_used_s),
        "priority_score": usage.priority_score,
    }


def _iso(at_s: float) -> str:
    return datetime.datetime.fromtimestamp(at_s, datetime.UTC).isoformat()


ROUTES = (
    web.get("/api/v1/models", list_models),
    web.post("/api/v1/models/preload", preload),
    web.get("/api/v1/models/usage-stats", usage_stats),
    web.get("/api/v1/stats", stats),
    web.post("/api/v1/ideas/{idea_id}/rating", rate),
)
