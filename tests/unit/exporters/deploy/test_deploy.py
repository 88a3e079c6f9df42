"""Deploying into a daemon that serves a tiny model, and going back."""

from __future__ import annotations

from exporters.__main__ import main
from exporters.deploy.history import Deployment, History
from exporters.deploy.store import examine
from nsedge.api import LoadWish, Sampling
from nsedge.bundle.causal_lm import GoldenPrompt
from nsedge.ipc.client import Client, Finished
from tests.unit.exporters.deploy.deployable import PROMPTS, alias_of, folder, served, words


def test_a_bundle_is_copied_tried_out_and_served_under_its_alias(home, bundles, command):
    with home.serving():
        answer = command("deploy", bundles[0])
        model = served(bundles[0])
        assert answer == {
            "status": 0,
            "alias": "tiny",
            "model": model,
            "previous": None,
            "changed": True,
            "copied": True,
            "golden": {"tokens": 36, "agreed": 36},
            "removed": [],
        }
        assert home.stored() == [folder(bundles[0])]
        with Client(home.endpoint) as client:
            events = list(client.generate("tiny", "w1 w2", sampling=Sampling(max_tokens=3)))
            assert isinstance(events[-1], Finished)
            assert client.stats().models.keys() == {model}


def test_the_same_bundle_again_changes_nothing_and_says_so(home, bundles, command, capsys):
    with home.serving():
        command("deploy", bundles[0])
        again = command("deploy", bundles[0])
        assert (again["changed"], again["copied"], again["status"]) == (False, False, 0)
        assert main(["deploy", str(bundles[0]), "--to", home.endpoint]) == 0
        assert "already: nothing was done" in capsys.readouterr().out


def test_rollback_goes_back_to_what_served_before_and_on_again_by_version(home, bundles, command):
    one, two, three = (served(bundle) for bundle in bundles)
    with home.serving():
        for bundle in bundles[:2]:
            command("deploy", bundle, "--as", "prod")
        assert command("rollback", "prod")["model"] == one
        assert alias_of(home, "prod") == one
        failed = command("rollback", "prod")
        assert failed["status"] == 1
        assert "nothing is known that prod stood for before" in failed["error"]
        assert command("rollback", "prod", "--to-version", two[-12:-6])["model"] == two
        assert command("rollback", "prod")["model"] == one
        assert command("deploy", bundles[2], "--as", "prod")["previous"] == one
        assert command("rollback", "prod")["model"] == one, "what failed before is not gone back to"
        assert "none of prod" in command("rollback", "prod", "--to-version", "zzz")["error"]
        assert three in command("rollback", "prod", "--to-version", "")["error"]


def test_aliases_and_history_survive_a_restart_of_the_daemon(home, bundles, command):
    with home.serving():
        command("deploy", bundles[0])
        command("deploy", bundles[1])
    with home.serving():
        assert alias_of(home, "tiny") == served(bundles[1])
        assert command("rollback", "tiny")["model"] == served(bundles[0])
    with home.serving():
        assert alias_of(home, "tiny") == served(bundles[0])


def test_the_replaced_version_leaves_memory_a_while_after_its_last_request(home, bundles, command):
    with home.serving(), Client(home.endpoint) as client:
        command("deploy", bundles[0])
        client.load(LoadWish(model="tiny", keep_alive_s=7200.0, pin=True))
        command("deploy", bundles[1])
        models = {one.name: one for one in client.models()}
        old, new = models[served(bundles[0])], models[served(bundles[1])]
        assert (old.keep_alive_s, old.pinned) == (60.0, False)
        assert (new.keep_alive_s, new.pinned) == (7200.0, True), "as the old one was kept"


def test_only_so_many_versions_stay_and_none_that_another_alias_needs(home, bundles, command):
    with home.serving(), Client(home.endpoint) as client:
        command("deploy", bundles[0], "--as", "other")
        command("deploy", bundles[0], "--as", "prod")
        assert command("deploy", bundles[1], "--as", "prod", "--keep", 0)["removed"] == []
        client.unload(served(bundles[1]))
        resident = command("deploy", bundles[2], "--as", "prod", "--keep", 0)
        assert resident["removed"] == [served(bundles[1])]
        assert home.stored() == sorted([folder(bundles[0]), folder(bundles[2])])
        assert served(bundles[1]) not in [one.name for one in client.models()]


def test_versions_are_listed_with_their_provenance(home, bundles, command, capsys):
    with home.serving():
        command("deploy", bundles[0])
        command("deploy", bundles[1])
        command("deploy", bundles[2], "--as", "else")
        answer = command("versions", "tiny")
        assert answer["daemon"] == home.endpoint
        new, old = answer["versions"]
        assert (new["model"], new["serving"]) == (served(bundles[1]), True)
        assert (old["model"], old["serving"]) == (served(bundles[0]), False)
        assert new["source"] == "made for a test"
        assert (new["revision"], new["schemes"]) == ("r1", ["fp32"])
        assert new["created"] == "2026-01-02T00:00:00Z"
        assert set(new["deployed"]) == {"tiny"}
        assert len(command("versions")["versions"]) == 3
    assert main(["versions", "--to", home.endpoint]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["VERSION", "SERVED"]
    assert "from its next start on" in lines[-1]
    assert len([line for line in lines if "made for a test" in line]) == 3
    assert "never did" in command("versions", "nobody")["error"]


def test_a_damaged_version_is_listed_with_what_is_wrong(home, bundles, command):
    with home.serving():
        command("deploy", bundles[0])
        (home.store / folder(bundles[0]) / "tokenizer.json").unlink()
        (found,) = command("versions")["versions"]
        assert "tokenizer.json" in found["error"]


def test_a_damaged_version_is_repaired_by_deploying_it_again(home, bundles, command):
    with home.serving():
        command("deploy", bundles[0])
        stored = home.store / folder(bundles[0]) / "tokenizer.json"
        content = stored.read_bytes()
        stored.write_bytes(b"x" * len(content))
        assert command("deploy", bundles[0])["copied"]
        assert stored.read_bytes() == content


# Without a daemon.


def test_offline_it_is_served_from_the_next_start_on(home, bundles, command):
    assert command("deploy", bundles[0], "--offline")["golden"] is None
    assert command("deploy", bundles[1], "--offline")["previous"] == served(bundles[0])
    with home.serving():
        assert alias_of(home, "tiny") == served(bundles[1])
        assert "leave --offline out" in command("rollback", "tiny", "--offline")["error"]
    assert command("rollback", "tiny", "--offline")["model"] == served(bundles[0])
    with home.serving():
        assert alias_of(home, "tiny") == served(bundles[0])


def test_links_share_the_bytes_and_a_copy_does_not(home, bundles, command):
    command("deploy", bundles[0], "--offline", "--link")
    command("deploy", bundles[1], "--offline")
    for bundle, shared in ((bundles[0], True), (bundles[1], False)):
        mine = bundle / "cpu" / "model.onnx.data"
        assert mine.samefile(home.store / folder(bundle) / "cpu" / "model.onnx.data") is shared


def test_a_signature_goes_along_and_nothing_else(home, bundles, command):
    (bundles[0] / "manifest.json.minisig").write_text("signed")
    (bundles[0] / "stray").write_text("not copied")
    command("deploy", bundles[0], "--offline")
    stored = home.store / folder(bundles[0])
    assert (stored / "manifest.json.minisig").read_text() == "signed"
    assert not (stored / "stray").exists()


# The history, and the comparison, by themselves.


def test_a_history_goes_back_step_by_step_and_ends():
    def deployed(model: str, previous: str | None) -> Deployment:
        return Deployment(model=model, deployed="2026-01-01T00:00:00Z", previous=previous)

    known = History(alias="a").after(deployed("1", None)).after(deployed("2", "1"))
    assert list(known.back_from("2")) == ["1"]
    again = known.after(deployed("1", "2"))
    assert [one.model for one in again.deployments] == ["2", "1"]
    assert list(again.back_from("1")) == ["2"], "two that were deployed after each other"
    assert list(known.without(["1"]).back_from("2")) == ["1"]
    assert list(known.back_from("unknown")) == []


def test_tokens_after_another_one_are_asked_for_anew(bundles):
    from tokenizers import Tokenizer

    from exporters.deploy.trial import Asked

    golden = examine(bundles[0]).bundle.golden("generate", GoldenPrompt)[0]
    tokenizer = Tokenizer.from_file(str(bundles[0] / "tokenizer.json"))
    asked = Asked(prompt=golden)
    right = golden.continuation_ids
    assert asked.text(tokenizer) == words(PROMPTS[0])
    asked.compare([*right[:4], right[4] + 1, 0, 0])
    assert asked.hits == [True] * 4 + [False]
    assert asked.text(tokenizer) == words((*PROMPTS[0], *right[:5]))
    asked.compare(right[5:])
    assert asked.hits == [True] * 4 + [False] + [True] * 7
    assert asked.text(tokenizer) is None
