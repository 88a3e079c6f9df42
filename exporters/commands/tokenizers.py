"""`nsedge-export tokenizers`."""

from __future__ import annotations

import argparse

import msgspec

from exporters.answer import FAILURE, SUCCESS, Answer
from exporters.cache import Cache
from exporters.commands import Commands
from exporters.commands.options import add_json


def add(commands: Commands) -> None:
    """Enter the command."""
    parser = commands.add_parser("tokenizers", help="tokenizers by name: list, fetch, verify")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="those that are known, and which are here")
    fetching = actions.add_parser("fetch", help="fetch one from the hub")
    fetching.add_argument("--revision", help="branch, tag or commit; main")
    verifying = actions.add_parser("verify", help="check one that was fetched")
    for one in (fetching, verifying):
        one.add_argument("name", metavar="NAME")
    for one, run in ((listing, run_list), (fetching, run_fetch), (verifying, run_verify)):
        add_json(one)
        one.set_defaults(run=run)


def run_list(arguments: argparse.Namespace, cache: Cache) -> Answer:
    """What there is."""
    from exporters.model.shelf import fetched, shelf

    told, lines = [], []
    for one in shelf():
        here = fetched(one.name)
        told.append(msgspec.to_builtins(one) | {"fetched": msgspec.to_builtins(here)})
        notes = ["gated"] * one.gated + ([] if here is None else [f"here at {here.commit[:12]}"])
        lines.append(
            f"{one.name:18} {one.tokens:>7,} tokens  {one.repository}@{one.revision}, licence"
            f" {one.licence}{', ' if notes else ''}{', '.join(notes)}"
        )
    return {"tokenizers": told}, lines, SUCCESS


def run_fetch(arguments: argparse.Namespace, cache: Cache) -> Answer:
    """Fetch one."""
    from exporters.model.shelf import fetch, known, place_of

    wanted = known(arguments.name)
    with cache.progress.step(f"Fetching {wanted.repository}"):
        record = fetch(wanted, arguments.revision)
    place = str(place_of(wanted.name))
    lines = [
        f"{place}: {wanted.repository} at {record.commit}, of its {record.made_of}",
        f"  licence: {wanted.licence}",
    ]
    return {"place": place, **msgspec.to_builtins(record)}, lines, SUCCESS


def run_verify(arguments: argparse.Namespace, cache: Cache) -> Answer:
    """Check one."""
    from exporters.model.shelf import known, verify

    verdict = verify(known(arguments.name))
    passed = not verdict.failures
    lines = [
        f"{verdict.name}: {'passed' if passed else 'FAILED'}",
        f"  {verdict.tokens:,} tokens and {verdict.added} added ones, of"
        f" {verdict.fetched.repository} at {verdict.fetched.commit}",
        *(f"  FAILED: {reason}" for reason in verdict.failures),
    ]
    result = {"passed": passed, **msgspec.to_builtins(verdict)}
    return result, lines, SUCCESS if passed else FAILURE
