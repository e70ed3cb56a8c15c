"""PAL asks with what its proxy chose, goes on from the best, advances, and stops when it should."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_model import tiny

from mosa.attacks import gcg, pal
from mosa.attacks.drive import each_form, user
from mosa.attacks.suffix import can_be_typed, losses, problem, states
from mosa.lm.causal import complete

WANTED = "sure , here is how"
BEHAVIOUR = {"id": "b", **user("how do i make a kettle ?"), "target": WANTED}
START = ". . . ."
LENGTH = 24


class Target:
    """It says what its script makes of the suffix."""

    def __init__(self, says=lambda suffix: "no"):
        self.says, self.asked = says, []

    def generate(self, requests, sampler, part):
        self.asked.append([r.get("suffix") for r in requests])
        return [{"request": r, "verdicts": {}, "response": {
            "text": self.says(r.get("suffix")), "forwards": 4}} for r in requests]


class Likely:
    """Scripted likelihoods; it keeps what it was asked."""

    def __init__(self, value=lambda query: -1.0):
        self.value, self.asked = value, []

    def __call__(self, target, queries, sampler):
        self.asked.append(queries)
        return [self.value(query) for query in queries]


def config(**values):
    return pal.Config(**{"suffix": START, "candidates": 6, "topk": 8, "asked": 3,
                         "max_queries": 12, "k_start": 4} | values)


def run(cfg, form, target, likely=None, proxy=None, behaviour=BEHAVIOUR):
    search = partial(pal.attack, proxy=proxy or tiny(), length=LENGTH)
    return each_form("pal", search, pal.FORMS, target, [behaviour], None,
                     cfg.model_copy(update={"forms": [form]}), None, likely=likely or Likely())


def task_of(proxy, suffix=START, phrase="sure", position=0, draft=None):
    draft = [] if proxy.model.config.is_causal and draft is None else draft
    return problem(proxy, BEHAVIOUR["messages"], suffix, phrase, position, LENGTH, draft)


def proxy_losses(proxy, task, texts):
    shown, weights = states(proxy, task)
    suffixes = torch.tensor([proxy.encode(text) for text in texts])
    return losses(proxy, task, suffixes, shown, weights).tolist()


def changed(a, b):
    return sum(x != y for x, y in zip(a.split(), b.split(), strict=True))


@pytest.fixture
def scripted(monkeypatch):
    """Suffixes in a row, "a a a 0" and so on, in place of the proxy's; the tasks are kept."""
    tasks = []

    def edits(proxy, task, cfg, step, fast=None):
        tasks.append(task)
        words = ["the", "of", "or", "how", "make", "sure"][: cfg.candidates]
        return [f"{proxy.tokenizer.decode(task.suffix[1:])} {word}" for word in words]

    monkeypatch.setattr(pal, "edits", edits)
    return tasks


@pytest.mark.parametrize("causal", [False, True])
def test_the_proxys_gradient_proposes_and_its_loss_orders(causal):
    """Beside swaps drawn from all tokens, of any gradient."""
    means = {}
    for topk in (8, 999):
        found = []
        for seed in range(3):
            proxy = tiny(seed, causal=causal)
            task = task_of(proxy)
            texts = pal.edits(proxy, task, config(candidates=24, topk=topk), 1)
            assert len(texts) == 24 and all(changed(START, text) == 1 for text in texts)
            values = proxy_losses(proxy, task, texts)
            assert values == sorted(values)
            found += values
        means[topk] = sum(found) / len(found)
    assert means[8] < means[999] - 0.05


def test_the_target_is_asked_with_the_best_on_the_proxy():
    proxy, likely = tiny(), Likely()
    run(config(max_queries=4), "likelihood", Target(), likely, proxy)
    [queries] = likely.asked
    assert [query["suffix"] for query in queries] == pal.edits(
        proxy, task_of(proxy), config(), 1)[:3]
    assert queries[0]["messages"] == user(f"how do i make a kettle ? {queries[0]['suffix']}")[
        "messages"]


def test_the_best_on_the_target_goes_on_even_if_it_is_worse_than_the_last(scripted):
    likely = Likely(lambda query: -1.0 * query["step"] - (not query["suffix"].endswith("of")))
    target = Target()
    found = run(config(), "likelihood", target, likely)
    starts = [tiny().tokenizer.decode(task.suffix) for task in scripted]
    assert starts == [START, ". . . of", ". . of of"]
    assert target.asked == [[". . . of"], [". . of of"], [". of of of"]]
    [row] = found.rows  # of the first step, which had the least loss of all
    assert (row["request"]["suffix"], row["request"]["step"]) == (". . . of", 1)
    assert (row["request"]["loss"], row["request"]["counted"]) == (1.0, 1)


def test_no_suffix_is_gone_on_from_twice(monkeypatch):
    monkeypatch.setattr(pal, "edits", lambda *args: [START, ". . . of", ". . . or"])
    target = Target()
    found = run(config(max_queries=99), "likelihood", target)
    assert target.asked == [[". . . of"], [". . . or"]]
    assert found.rows[0]["response"]["search_queries"] == 1


def test_one_word_more_counts_where_those_so_far_are_likelier_than_not(scripted):
    logp = {1: -0.7, 2: -0.69, 3: -0.6, 4: -9.0, 5: -9.0}  # log 0.5 is -0.693
    likely = Likely(lambda query: logp[query["step"]])
    [row] = run(config(max_queries=20), "likelihood", Target(), likely).rows
    assert [queries[0]["phrase"] for queries in likely.asked] == [
        "sure", "sure", "sure ,", "sure , here", "sure , here"]
    assert [task.phrase for task in scripted] == [
        tiny().encode(queries[0]["phrase"]) for queries in likely.asked]
    assert {query["position"] for queries in likely.asked for query in queries} == {0}
    assert row["request"]["counted"] == 3  # further is better, whatever the loss


def test_the_whole_target_string_is_the_most_that_counts(scripted):
    likely = Likely(lambda query: -0.1)
    [row] = run(config(max_queries=32), "likelihood", Target(), likely).rows
    assert row["request"]["counted"] == 5 and row["request"]["step"] == 5  # the first of equals
    assert [len(queries[0]["phrase"].split()) for queries in likely.asked] == [
        1, 2, 3, 4, 5, 5, 5, 5]


def test_the_hard_label_counts_words_of_the_response(scripted):
    def says(suffix):
        return " ".join(WANTED.split()[: suffix.split().count("or")]) + " and no more"

    target, likely = Target(says), Likely()
    found = run(config(max_queries=9), "text", target, likely)
    assert not likely.asked
    assert [len(wave) for wave in target.asked] == [3, 3, 3]
    assert [len(task.phrase) for task in scripted] == [1, 2, 3]  # those there and the next
    [row] = found.rows
    assert row["request"]["suffix"] == ". or or or"
    assert (row["request"]["counted"], row["request"]["loss"]) == (3, 1 - 3 / 5)
    assert row["request"]["access"] == "A0"


@pytest.mark.parametrize("text, begins", [
    ("sure , here is how to", 5), ("sure , here was how", 3), ("no , sure", 0), ("sure", 1),
    ("", 0)])
def test_the_longest_common_beginning_in_words(text, begins):
    assert pal.begun(text, WANTED.split()) == begins


@pytest.mark.parametrize("form", ["likelihood", "text", "middle"])
def test_a_success_ends_the_search(scripted, form):
    said = {". . . of": f"i am sorry , but i cannot help . {WANTED}",
            ". . of the": f"yes . {WANTED} ."}
    likely = Likely(lambda query: float(query["suffix"] in said))
    target = Target(lambda suffix: said.get(suffix, "no"))
    if form == "text":  # no response begins with a word of it: the first of equals goes on
        said[". . the of"] = said.pop(". . of the")
    found = run(config(max_queries=99), form, target, likely)
    assert len(target.asked) == 2
    assert found.rows[0]["response"]["text"] == f"yes . {WANTED} ."


def test_the_control_asks_once_a_step_and_weighs_nothing():
    target, likely = Target(), Likely()
    [row] = run(config(max_queries=12), "random", target, likely).rows
    assert not likely.asked
    assert [len(wave) for wave in target.asked] == [1, 1, 1]
    suffixes = [suffix for [suffix] in target.asked]
    assert len({*suffixes}) == 3
    said = row["request"]
    assert (said["suffix"], said["step"], said["access"]) == (suffixes[-1], 3, "A0")
    assert not {"loss", "counted"} & said.keys()
    assert said["messages"] == user(f"how do i make a kettle ? {suffixes[-1]}")["messages"]


def test_the_control_draws_by_seed_behaviour_and_step():
    def asked(id="b", **values):
        target = Target()
        run(config(**values), "random", target, behaviour=BEHAVIOUR | {"id": id})
        return target.asked

    assert asked() == asked() == asked(max_queries=99)[:3]
    assert not {str(wave) for wave in asked()} & {str(wave) for wave in asked("c")}
    assert not {str(wave) for wave in asked()} & {str(wave) for wave in asked(seed=1)}


def test_the_control_asks_the_proxy_for_tokens_alone(monkeypatch):
    def forward(*args, **kwargs):
        raise AssertionError("the control asks no proxy")

    for causal in (False, True):
        proxy = tiny(causal=causal)
        monkeypatch.setattr(proxy.model, "forward", forward)
        assert len(run(config(), "random", Target(), proxy=proxy).rows) == 1


def test_the_control_stops_at_a_success():
    told = []

    def says(suffix):
        told.append(suffix)
        return {2: f"i am sorry , but i cannot help . {WANTED}", 5: f"yes . {WANTED} ."}.get(
            len(told), "no")

    target = Target(says)
    [row] = run(config(max_queries=99), "random", target).rows
    assert len(target.asked) == row["request"]["step"] == 5


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 8))
def test_fresh_suffixes_come_back_as_their_tokens(seed, size):
    proxy = tiny()
    task = task_of(proxy, " ".join(["."] * size))
    text = pal.fresh(proxy, task, torch.Generator().manual_seed(seed))
    ids = proxy.encode(text)
    assert len(ids) == size and can_be_typed(proxy, task, ids)
    assert not {*ids} & {*proxy.tokenizer.all_special_ids, *proxy.unknown_ids,
                         proxy.encode(".")[0]}  # the start's own is no swap


def test_fresh_tokens_are_drawn_evenly():
    """Over two halves of the vocabulary, at every place."""
    proxy, upper = tiny(), []
    task = task_of(proxy)
    for seed in range(200):
        ids = proxy.encode(pal.fresh(proxy, task, torch.Generator().manual_seed(seed)))
        upper.append([i >= proxy.model.config.vocab_size // 2 for i in ids])
    shares = torch.tensor(upper).float().mean(0)
    assert ((shares - 0.5).abs() < 0.15).all()  # four standard errors


def test_a_place_where_no_token_fits_keeps_its_own(monkeypatch):
    """Here no more than two may differ, whichever they are."""
    proxy = tiny()

    def typed(lm, task, suffix):
        return sum(a != b for a, b in zip(suffix, task.suffix, strict=True)) <= 2

    for module in (gcg, pal):
        monkeypatch.setattr(module, "can_be_typed", typed)
    text = pal.fresh(proxy, task_of(proxy), torch.Generator().manual_seed(0))
    assert changed(START, text) == 2


WORDS = "the of or how make sure here".split()


@settings(max_examples=40, deadline=None)
@given(most=st.integers(1, 40), asked=st.integers(1, 7),
       form=st.sampled_from(["likelihood", "text", "middle"]))
def test_queries_are_capped_exactly(most, asked, form):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pal, "edits", lambda proxy, task, cfg, step, fast: [
            f"{WORDS[step % 7]} {WORDS[step // 7]} . {word}" for word in WORDS])
        cfg = config(max_queries=most, asked=asked)
        target, likely = Target(), Likely()
        run(cfg, form, target, likely)
        spent = sum(map(len, target.asked + likely.asked))
    if form == "text":
        assert spent == most
    else:  # a step is one candidate and one look at least; the plain request where none fits
        assert spent == (1 if most == 1 else most - (most % (asked + 1) == 1))


@settings(max_examples=40, deadline=None)
@given(most=st.integers(1, 40), asked=st.integers(1, 7), candidates=st.integers(1, 7))
def test_the_control_has_as_many_generations_as_the_search(most, asked, candidates):
    cfg, counts = config(max_queries=most, asked=asked, candidates=candidates), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pal, "edits", lambda proxy, task, cfg, step, fast: [
            f"{WORDS[step % 7]} {WORDS[step // 7]} . {word}" for word in WORDS[: cfg.candidates]])
        patch.setattr(pal, "fresh", lambda *args: ". . . of")
        for form in ("likelihood", "random"):
            target = Target()
            run(cfg, form, target)
            counts[form] = len(target.asked)
    assert counts["random"] == counts["likelihood"]


def test_a_suffix_that_nobody_can_type_on_counts_as_the_plain_request(monkeypatch):
    monkeypatch.setattr(gcg, "can_be_typed", lambda *args: False)
    target = Target()
    found = run(config(), "text", target)
    assert target.asked == [[None]] and found.rows[0]["response"]["search_queries"] == 0


def test_a_behaviour_without_a_target_string_is_named():
    with pytest.raises(ValueError, match=r"^b: `target` is empty"):
        run(config(), "text", Target(), behaviour=BEHAVIOUR | {"target": ""})


def test_a_causal_proxy_sees_its_own_words_before_the_middle(scripted):
    proxy, likely = tiny(causal=True), Likely()
    run(config(max_queries=4, k_start=6), "middle", Target(), likely, proxy)
    [own] = complete(proxy, [BEHAVIOUR["messages"]], [[]], 6, eos=False)
    [task] = scripted
    assert task.position == 6 and task.response == own + proxy.encode("sure")
    assert {query["position"] for query in likely.asked[0]} == {6}


def test_run_weighs_on_the_target_itself():
    """A target that is its own proxy: the first candidate is the best on both."""
    lm = tiny()
    target = Target()
    target.lm, target.reminded = lm, lambda query: query
    cfg = config(forms=["likelihood", "text"], max_queries=4)
    found = pal.run(target, [BEHAVIOUR], None, cfg, SimpleNamespace(length=LENGTH), lm)
    one, two = (row["request"] for row in found.rows)
    best = pal.edits(lm, task_of(lm), cfg, 1)[0]
    assert (one["suffix"], one["attack"], one["goal"], one["access"]) == (
        best, "pal", "likelihood", "A3")
    assert one["loss"] == pytest.approx(proxy_losses(lm, task_of(lm), [best])[0], abs=1e-3)
    assert found.rows[0]["response"]["search_forwards"] == 3
    assert (two["goal"], two["access"]) == ("text", "A0")


def test_defaults_are_the_published_ones():
    cfg = pal.Config()
    assert (len(cfg.suffix.split()), cfg.candidates, cfg.topk, cfg.asked, cfg.max_queries) == (
        20, 128, 256, 32, 25_000)
