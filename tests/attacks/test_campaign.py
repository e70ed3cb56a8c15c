"""What attacks share: who is attacked, in which forms, and what is made of their rows."""

import pytest

from mosa.attacks import campaign, ept, tap
from mosa.attacks.campaign import Campaign
from mosa.attacks.guildhelper import GuildHelper
from mosa.data import sets
from mosa.pipeline.sections import Data
from mosa.world import requests

DATA = Data(source="world", mirror=None, benchmarks=["sealed_a", "sealed_b"], benign="open",
            borderline="borderline", validation=[], tasks=[], n_benchmark=4, n_benign=4,
            n_borderline=0, n_validation=0, n_tasks=0, seed=0)
REQUESTS = [row for name in DATA.benchmarks
            for row in sets.wrapped(requests.requests(name, 4), "plain", DATA)]


def shared(**changes):
    return Campaign(**{"n": 2, "helper": "world", "adaptive": ["mosa"], "compute": {}} | changes)


def row(id, query, success, goal="prompt", model="mosa", attack="tap", **more):
    return {"id": id, "query": query, "success": success, "goal": goal, "model": model,
            "attack": attack, "category": id, "wording": id, "forwards": 8, "search_forwards": 16,
            "helper_calls": 4, "judge_calls": 3, **more}


def test_as_many_of_each_benchmark_are_attacked():
    found = campaign.chosen(REQUESTS, 3)
    assert [(r["set"], r["id"][-1]) for r in found] == [
        (name, str(i)) for name in DATA.benchmarks for i in range(3)]
    with pytest.raises(ValueError, match=r"attack\.n: asks for 5 behaviours of sealed_a, which ha"):
        campaign.chosen(REQUESTS, 5)


def test_only_the_models_that_are_named_are_attacked_in_the_middle():
    cfg = tap.Config(forms=["prompt", "middle"], depth=2)
    assert campaign.forms(cfg, shared(), "mosa") == cfg
    assert campaign.forms(cfg, shared(), "original") == tap.Config(forms=["prompt"], depth=2)
    written = ept.Config(forms=["prompt", "canvas", "middle"])
    assert campaign.forms(written, shared(), "mosa") == written
    assert campaign.forms(written, shared(), "original").forms == ["prompt"]


@pytest.mark.parametrize("model", ["original", "mosa"])
@pytest.mark.parametrize("cfg, key", [
    (tap.Config(forms=["middle", "prompt"]), r"tap\.forms: \['middle', 'prompt'\]"),
    (tap.Config(forms=["middle"]), r"tap\.forms: \['middle'\]"),
    (ept.Config(forms=["canvas"]), r"ept\.forms: \['canvas'\]"),
    (tap.Config.model_construct(forms=[]), r"tap\.forms: \[\]")])
def test_the_first_form_is_one_that_every_model_is_attacked_in(cfg, key, model):
    with pytest.raises(ValueError, match=rf"^params\.yaml: {key}: the first form .*another$"):
        campaign.forms(cfg, shared(), model)


def test_a_helper_is_the_worlds_or_an_endpoint(monkeypatch):
    assert isinstance(campaign.helper(shared(), DATA), GuildHelper)
    for name in ("URL", "MODEL", "KEY"):
        monkeypatch.delenv(f"MOSA_HELPER_{name}", raising=False)
    with pytest.raises(ValueError, match="MOSA_HELPER_URL is not set"):
        campaign.helper(shared(helper="endpoint"), DATA)
    monkeypatch.setenv("MOSA_HELPER_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("MOSA_HELPER_MODEL", "m")
    assert campaign.helper(shared(helper="endpoint"), DATA).phrases == sets.phrases(DATA)


def test_success_grows_with_the_budget_and_needs_no_selection():
    queries = [row("a", 0, False), row("a", 1, True), row("a", 2, False), row("b", 0, False),
               row("b", 1, False), row("b", 2, True), row("c", 0, False)]
    curve = campaign.by_budget(queries, [1, 2, 3, 9])
    assert [curve[budget]["k"] for budget in (1, 2, 3, 9)] == [0, 1, 2, 2]
    assert {rate["n"] for rate in curve.values()} == {3}


def test_a_summary_counts_behaviours_and_tells_costs_of_one():
    rows = [row("a", 1, False), row("b", 2, True), row("b", 3, False)]  # two tries of b
    queries = [row(id, i, i == 2) for id in "ab" for i in range(4)]
    found = campaign.summary(rows, queries)["prompt"]
    assert (found["success"]["k"], found["success"]["n"]) == (1, 2)
    assert (found["any query"]["k"], found["any query"]["n"]) == (2, 2)
    assert (found["responses"], found["forwards"]) == (4, 24)
    assert (found["helper's texts"], found["texts read"]) == (4, 3)


def test_the_first_form_of_each_attack_is_the_one_of_the_tables_and_both_of_dia():
    rows = [row("a", 0, True, "none", attack="native"), row("a", 0, True, "PAD", attack="native"),
            row("a", 0, True, "prompt"), row("a", 0, True, "middle"),
            row("a", 0, False, "continue", attack="dia"), row("a", 1, False, "continue",
                                                              attack="dia"),
            row("a", 0, True, "task", attack="dia")]
    found = campaign.main_forms(rows)
    assert [(r["goal"], r["query"]) for r in found] == [
        ("none", 0), ("prompt", 0), ("either", 0), ("either", 1), ("either", 2)]
    assert [r["success"] for r in campaign.won(found) if r["attack"] == "dia"] == [True]


def test_any_try_wins_and_what_was_not_read_counts_neither_way():
    rows = [row("a", 0, False), row("a", 1, True), row("b", 0, None), row("b", 1, False),
            row("c", 0, None)]
    assert [(r["id"], r["success"]) for r in campaign.won(campaign.known(rows))] == [
        ("a", True), ("b", False)]


def test_light_rows_keep_what_judges_read():
    [one] = campaign.light([{"request": {}, "verdicts": {}, "response": {
        "ids": [1], "reveal_step": [0], "own": ["x"], "text": "x"}}])
    assert one["response"] == {"own": ["x"], "text": "x"}


def test_a_row_is_told_with_what_was_written_on_the_canvas():
    text = campaign.told(row("a", 0, True, score=5, text="sure", prefill={"3": "then", "9": [1]},
                             messages=[{"role": "user", "content": "how ?"}]))
    assert text == "[prompt, a, score 5]\n  user: how ?\n  in slot 3: then\n  -> sure\n"
