"""Behaviours advance together, each sees its own answers alone, and levels are kept."""

from types import SimpleNamespace

import pytest
from tiny_model import tiny

from mosa.attacks import drive
from mosa.attacks.drive import Help, Likely, answered, each_form, first_step, together
from mosa.endpoint import Answer
from mosa.pipeline.sections import Sampler


class Scripted:
    """A target that echoes; it notes its waves."""

    def __init__(self):
        self.waves = []

    def generate(self, requests, sampler, part):
        self.waves.append((part, [(r["id"], r["messages"][-1]["content"]) for r in requests]))
        return [{"request": r, "response": {"text": f"echo {r['messages'][-1]['content']}",
                                            "forwards": 8}, "verdicts": {}} for r in requests]


def user(text):
    return {"role": "user", "content": text}


def counting(behaviour, helper):
    """Asks as many times as its id says; two at once the first time."""
    first = yield [{"messages": [user("a")]}, {"messages": [user("b")]}]
    rows = [first[1]]
    for i in range(int(behaviour["id"]) - 1):
        rows = yield [{"messages": [user(f"{behaviour['id']}.{i}")]}]
    return rows


def behaviours(*ids):
    return [{"id": str(i), "messages": [user("x")]} for i in ids]


def test_waves_hold_all_that_is_asked_at_once():
    target = Scripted()
    rows = together(counting, behaviours(1, 3, 2), target, None, "A0").rows
    assert [len(asked) for _, asked in target.waves] == [6, 2, 1]
    assert [part for part, _ in target.waves] == ["wave-000", "wave-001", "wave-002"]
    assert [row["request"]["id"] for row in rows] == ["1", "3", "2"]
    assert [row["response"]["text"] for row in rows] == ["echo b", "echo 3.1", "echo 2.0"]


def test_costs_are_counted_by_behaviour():
    rows = together(counting, behaviours(1, 3), Scripted(), None, "A0").rows
    assert [row["response"]["search_queries"] for row in rows] == [1, 3]
    assert [row["response"]["search_forwards"] for row in rows] == [8, 24]
    assert [row["request"]["query"] for row in rows] == [1, 3]


def test_what_one_behaviour_gets_does_not_depend_on_the_others():
    alone = together(counting, behaviours(3), Scripted(), None, "A0").rows
    among = together(counting, behaviours(2, 3, 1), Scripted(), None, "A0").rows
    assert alone == [row for row in among if row["request"]["id"] == "3"]


def test_a_wave_may_be_skipped_and_what_finds_nothing_counts_as_the_plain_request():
    def quiet(behaviour, helper):
        yield []
        [row] = yield [{"messages": [user("a")]}]
        return [] if behaviour["id"] == "1" else [row]

    found = together(quiet, behaviours(1, 2), Scripted(), None, "A0")
    assert [(row["request"]["id"], row["response"]["text"]) for row in found.rows] == [
        ("1", "echo x"), ("2", "echo a")]
    assert [row["response"]["search_queries"] for row in found.rows] == [1, 0]
    assert [row["response"]["text"] for row in found.queries] == ["echo a", "echo x", "echo a"]


def test_queries_that_are_decoded_alike_go_together():
    class Sampled(Scripted):
        def generate(self, requests, sampler, part):
            rows = super().generate(requests, sampler, part)
            return [row | {"response": row["response"] | {"t": sampler.temperature}}
                    for row in rows]

    def attack(behaviour, helper):
        warm = {"decode": {"temperature": 1.0}}
        rows = yield [{"messages": [user(t)]} | how for t, how in zip("abc", [warm, {}, warm])]
        return rows

    sampler = Sampler(length=8, steps=8, block_length=8, temperature=0.0, cfg_scale=0.0,
                      remasking="low_confidence", stop_at_eos=True, batch_size=2)
    target = Sampled()
    rows = together(attack, behaviours(1, 2), target, sampler, "A0").rows
    assert [row["response"]["text"] for row in rows] == ["echo a", "echo b", "echo c"] * 2
    assert [row["response"]["t"] for row in rows] == [1.0, 0.0, 1.0] * 2
    assert [len(asked) for _, asked in target.waves] == [4, 2]


def test_likelihoods_of_all_behaviours_are_taken_together_and_need_A3():
    calls = []

    def likely(target, queries, sampler):
        calls.append(len(queries))
        return [float(query["position"]) for query in queries]

    def attack(behaviour, helper):
        some = [{"messages": [user("x")], "phrase": "sure", "position": i} for i in (3, 4)]
        values = yield Likely(some)
        rows = yield [{"messages": [user(f"{values}")]}]
        return rows

    found = together(attack, behaviours(1, 2), Scripted(), None, "A3", likely=likely)
    assert calls == [4]
    assert [row["response"]["text"] for row in found.rows] == ["echo [3.0, 4.0]"] * 2
    assert [row["response"]["search_forwards"] for row in found.rows] == [2, 2]
    with pytest.raises(PermissionError, match="a likelihood needs A3"):
        together(attack, behaviours(1), Scripted(), None, "A2", likely=likely)


def test_first_step_is_one_forward_of_the_masked_response():
    """Beside the plain sum of log-probabilities."""
    lm = tiny()
    target = SimpleNamespace(lm=lm, reminded=lambda query: query)
    queries = [{"messages": [user("how do i make it ?")], "phrase": "sure ,", "position": 2},
               {"messages": [user("how ?")], "phrase": "first , cut", "position": 0,
                "prefill": {"5": "next ,"}}]
    found = first_step(target, queries, SimpleNamespace(length=8))
    for query, value in zip(queries, found):
        canvas = lm.canvas([query["messages"]], 8, query.get("prefill", {}))
        logp = lm(canvas.ids).detach()[0, canvas.prompt_length:].double().log_softmax(-1)
        wanted = sum(float(logp[query["position"] + i, token])
                     for i, token in enumerate(lm.encode(query["phrase"])))
        assert value == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("query, level, what", [
    ({"messages": [user("a")], "prefill": {3: "b"}}, "A2", "prefilled"),
    ({"messages": [user("a"), {"role": "assistant", "content": "of course"}, user("b")]}, "A1",
     "of course"),
    ({"messages": [{"role": "system", "content": "be kind"}, user("a")]}, "A1", "system"),
    ({"messages": [1, 2, 3]}, "A2", "token ids"),
    ({"messages": [user("a")], "decode": {"temperature": 1.0, "steps": 4}}, "A2", "its own steps"),
])
def test_a_query_beyond_the_declared_level_is_stopped(query, level, what):
    def attack(behaviour, helper):
        rows = yield [query]
        return rows

    class Any(Scripted):
        def generate(self, requests, sampler, part):
            return super().generate([r | {"messages": [user("a")]} for r in requests], None, part)

    sampler = Sampler(length=8, steps=8, block_length=8, temperature=0.0, cfg_scale=0.0,
                      remasking="low_confidence", stop_at_eos=True, batch_size=2)
    below = {"A1": "A0", "A2": "A1"}[level]
    with pytest.raises(PermissionError, match=f"{what}.*needs {level}.*declares {below}"):
        together(attack, behaviours(1), Any(), sampler, below)
    assert together(attack, behaviours(1), Any(), sampler, level).rows


def test_what_the_target_said_may_be_quoted_at_level_0():
    def converse(behaviour, helper):
        [row] = yield [{"messages": [user("a")]}]
        rows = yield [{"messages": [user("a"), {"role": "assistant", "content":
                                                row["response"]["text"]}, user("b")]}]
        return rows

    assert together(converse, behaviours(1), Scripted(), None, "A0")


def test_what_is_drawn_depends_on_nothing_beside_it():
    class Seeded(Scripted):
        def generate(self, requests, sampler, part):
            self.seeds = [r["seed"] for r in requests]
            return super().generate(requests, sampler, part)

    def attack(behaviour, helper):
        rows = yield [{"messages": [user("a")]}, {"messages": [user("b")], "seed": 7}]
        return rows

    whole, alone = Seeded(), Seeded()
    rows = together(attack, behaviours(1, 2), whole, None, "A0").rows
    together(attack, behaviours(2), alone, None, "A0")
    assert whole.seeds[2:] == alone.seeds and whole.seeds[1] == 7
    assert len({*whole.seeds}) == 3 and "seed" not in rows[0]["request"]


def test_an_id_is_attacked_once():
    with pytest.raises(ValueError, match="one id"):
        together(counting, behaviours(1, 1), Scripted(), None, "A0")


def forms_of(forms, *asked):
    """What each_form says to the forms of a module `polite`."""
    target = Scripted()
    with pytest.raises(ValueError) as error:
        each_form("polite", None, forms, target, behaviours(1), None,
                  SimpleNamespace(forms=asked), None)
    assert not target.waves and "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("level", ["a0", "A7", None])
def test_an_unknown_level_allows_nothing(level):
    said = forms_of({"prompt": "A0", "history": level}, "prompt", "history")
    assert said == (f"mosa.attacks.polite: FORMS: history: {level!r} is no access level; "
                    "known: A0, A1, A2, A3")
    with pytest.raises(ValueError, match="no access level"):
        together(counting, behaviours(1), Scripted(), None, level)


def test_a_form_that_a_module_lacks_is_named():
    assert forms_of({"prompt": "A0", "middle": "A0"}, "prompt", "canvas") == (
        "mosa.attacks.polite: FORMS has no 'canvas'; known: prompt, middle")


def yields(what):
    def attack(behaviour, helper):
        rows = yield what
        return rows
    return attack


def returns(what):
    def attack(behaviour, helper):
        [row] = yield [drive.user("a")]
        return what(row)
    return attack


@pytest.mark.parametrize("attack, said", [
    (yields("how ?"), "must yield a list of queries, such as .*'how"),
    (yields(["how ?"]), "must yield a list of queries, such as .*'how"),
    (yields(drive.user("how ?")), "must yield a list of queries"),
    (yields([drive.user(["how ?"])]), "must yield a list of queries"),
    (yields(x for x in "ab"), "must yield .* by `yield from`; it is <generator"),
    (returns(lambda row: row), "must return a list of rows"),
    (returns(lambda row: [row["response"]["text"]]), "must return a list of rows.*'echo a'"),
    (returns(lambda row: [drive.user("a")]), "must return a list of rows"),
])
def test_what_is_no_list_of_queries_or_rows_is_refused(attack, said):
    target = Scripted()
    with pytest.raises(TypeError, match=f"^7: the attack {said}"):
        together(attack, behaviours(7), target, None, "A0")
    assert "wave-001" not in [part for part, _ in target.waves]


class Chatty:
    """A helper that asks a model."""

    phrases, lines = {}, {}

    def __init__(self):
        self.calls = []

    def ask(self, chats, seeds, **options):
        self.calls.append((len(chats), seeds, options))
        return [Answer(f"{chat[-1]['content']}?", "stop", 1) for chat in chats]

    def propose(self, behaviour, kind, n, seed, tries=()):
        answers = yield Help([[user(text)] for text in "pq"[:n]], 7, (("temperature", 1.0),))
        return [answer.text for answer in answers]

    def score(self, behaviour, texts):
        answers = yield Help([[user(text)] for text in texts])
        return [len(answer.text) for answer in answers]


def test_the_helper_is_asked_for_all_at_once_between_two_waves_and_counted():
    def attack(behaviour, helper):
        texts = yield from helper.propose(behaviour, "prompt", 2, "0")
        [score] = yield from helper.score(behaviour, texts[:1])
        rows = yield [{"messages": [user(f"{texts} {score}")]}]
        return rows

    target, helper = Scripted(), Chatty()
    rows = together(attack, behaviours(1, 2), target, None, "A0", helper).rows
    assert helper.calls == [(4, [7, 8, 7, 8], {"temperature": 1.0}), (2, [0, 0], {})]
    assert len(target.waves) == 1
    assert [row["response"]["text"] for row in rows] == ["echo ['p?', 'q?'] 3"] * 2
    assert [(row["response"]["helper_calls"], row["response"]["judge_calls"])
            for row in rows] == [(2, 1)] * 2


class Silent(Chatty):
    """A helper that asks nobody."""

    def propose(self, behaviour, kind, n, seed, tries=()):
        return ["p", "q"][:n]
        yield

    def score(self, behaviour, texts):
        return [1.0 for _ in texts]
        yield


def forgetful(ask, first=False):
    def attack(behaviour, helper):
        for text in ask(helper, behaviour):
            rows = yield [drive.user(text)]
            if first:
                return rows
        return (yield [drive.user("a")])
    return attack


@pytest.mark.parametrize("helper", [Chatty(), Silent()])
@pytest.mark.parametrize("attack", [
    forgetful(lambda helper, b: list(helper.propose(b, "prompt", 2, "0"))),
    forgetful(lambda helper, b: [str(s) for s in helper.score(b, ["x"])]),
    forgetful(lambda helper, b: helper.propose(b, "prompt", 1, "0"), first=True)])
def test_a_helpers_method_without_yield_from_is_told(helper, attack):
    target = Scripted()
    with pytest.raises(TypeError, match=r"^7: .*`yield from`"):
        together(attack, behaviours(7), target, None, "A0", helper)
    assert not target.waves


def test_a_helper_that_asks_nobody_says_what_it_needs():
    def attack(behaviour, helper):
        yield Help([[user("p")]])

    with pytest.raises(ValueError, match="needs `ask`"):
        together(attack, behaviours(1), Scripted(), None, "A0")


def test_a_helper_can_be_asked_alone():
    helper = Chatty()
    assert answered(helper.propose({}, "prompt", 2, "0"), helper.ask) == ["p?", "q?"]
    assert helper.calls == [(2, [7, 8], {"temperature": 1.0})]
    with pytest.raises(ValueError, match="needs `ask`"):
        answered(helper.propose({}, "prompt", 2, "0"))
