import random
from types import SimpleNamespace

import pytest
from tiny_model import tiny

from mosa.data import guild, public, registry, sets
from mosa.judges import exact
from mosa.pipeline.sections import Data
from mosa.world import grammar, lexicon, requests, tasks, vocabulary
from mosa.world.lexicon import ADJECTIVES, OPEN, SEALED, Item


def config(**changes):
    return Data(**{
        "source": "world", "mirror": None, "benchmarks": ["sealed_a", "sealed_b"],
        "benign": "open", "borderline": "borderline", "validation": ["validation"],
        "tasks": ["arithmetic", "programs"], "n_benchmark": 9, "n_benign": 7, "n_borderline": 5,
        "n_validation": 4, "n_tasks": 3, "seed": 0,
    } | changes)


@pytest.fixture
def files(monkeypatch):
    """The `files` configuration, over stand-in data sets of 20 rows that remember the mirror."""

    def load(name, mirror):
        return [{"id": f"{name}-{i:04d}", "set": name, "behaviour": f"Ask {{n}} {i} of {mirror}?",
                 "target": "", "category": "", "item": ""} for i in range(20)]

    monkeypatch.setattr(registry, "load", load)
    return config(source="files", mirror="there", benchmarks=["advbench", "harmbench"],
                  benign="alpaca", borderline="xstest", validation=[], tasks=[])


SIZES = {"sealed_a": 9, "sealed_b": 9, "open": 7, "borderline": 5, "validation": 4}


def test_behaviours_of_the_world_have_the_sizes_of_their_parts():
    found = sets.behaviours(config())
    assert {name: len(rows) for name, rows in found.items()} == SIZES
    assert all(row["set"] == name for name, rows in found.items() for row in rows)
    assert found["sealed_b"] == requests.requests("sealed_b", 9, 0)
    assert sets.behaviours(config(seed=3))["open"] == requests.requests("open", 7, 3)
    texts = [row["behaviour"] for rows in found.values() for row in rows]
    assert len(texts) == len(set(texts))


def test_roles_name_every_set_once():
    assert sets.roles(config()) == {
        "sealed_a": "benchmark", "sealed_b": "benchmark", "open": "benign",
        "borderline": "borderline", "validation": "validation",
    }
    assert sets.roles(config()).keys() == sets.behaviours(config()).keys()


def test_families_of_the_world_begin_with_plain_and_leave_out_the_replay():
    found = sets.families(config())
    assert next(iter(found)) == "plain" and "ledger" not in found
    assert set(found) == {"plain", *requests.WRAPS}
    assert [name for name, access in found.items() if access == "A1"] == ["turns"]


@pytest.mark.parametrize("family", sets.families(config()))
def test_wrapped_rows_of_the_world(family):
    rows = requests.requests("sealed_a", 6)
    found = sets.wrapped(rows, family, config())
    for row, new in zip(rows, found, strict=True):
        assert new == row | {"family": family, "access": sets.families(config())[family],
                             "messages": requests.wrap(row, family),
                             "template": " / ".join(requests.template(row, family))}
    assert "family" not in rows[0]


def test_phrases_and_questions():
    found = sets.phrases(config())
    assert list(found) == ["affirmative", "procedural", "neutral", "followed"]
    assert all(found.values())
    assert found["procedural"] == grammar.PROCEDURAL and found["affirmative"] == grammar.AFFIRMATIVE
    rows = sets.questions(config(seed=2))
    assert rows == tasks.questions("arithmetic", 3, 2) + tasks.questions("programs", 3, 2)
    assert sets.questions(config(n_tasks=0)) == sets.questions(config(tasks=[])) == []


def test_neutral_phrases_are_in_words_that_neither_answers_nor_refusals_care_for():
    said = vocabulary.written()  # of answers, refusals and harmless facts
    for phrase in guild.NEUTRAL:
        words = phrase.split()
        assert {*words} <= vocabulary.vocabulary() and len(words) == 6
        assert {*words} & said <= {"the", "a", "."}
        assert not {*words} & {*sum(lexicon.VERBS + lexicon.MATERIALS, [])}
        assert not {*words} & {*" ".join(requests.ORDERED).split()}


def test_files_are_sampled_from_the_mirror(files):
    found = sets.behaviours(files)
    assert {name: len(rows) for name, rows in found.items()} == {
        "advbench": 9, "harmbench": 9, "alpaca": 7, "xstest": 5}
    assert all(r["set"] == name and "there" in r["behaviour"]
               for name, rows in found.items() for r in rows)
    assert [r["id"] for r in found["advbench"]] == sorted({r["id"] for r in found["advbench"]})
    assert sets.roles(files).keys() == found.keys()
    assert sets.questions(files) == []
    assert sets.phrases(files)["procedural"] == public.PHRASES["procedural"]


def test_too_many_of_a_file_names_the_set(files):
    with pytest.raises(ValueError, match="n_benchmark"):
        sets.behaviours(files.model_copy(update={"n_benchmark": 21}))


def test_wrapped_rows_of_files(files):
    rows = sets.behaviours(files)["advbench"]
    found = sets.families(files)
    assert next(iter(found)) == "plain" and found["history"] == "A1"
    for family, access in found.items():
        for row, new in zip(rows, sets.wrapped(rows, family, files), strict=True):
            assert {k: new[k] for k in row} == row and "{behaviour}" in new["template"]
            assert (new["family"], new["access"]) == (family, access)
            assert new["messages"][-1]["role"] == "user"
            assert row["behaviour"] in new["messages"][-1]["content"]  # braces and all
            assert (len(new["messages"]) > 1) == (access == "A1")


def test_the_forbidden_answer_fills_the_response(files):
    lm = tiny()
    [row, *_] = sets.wrapped(requests.requests("sealed_a", 1), "alias", config())
    ids = sets.forbidden(row, config(), lm, 300)
    text = lm.tokenizer.decode(ids[: ids.index(lm.eos_id)])
    item = Item(*row["item"].split())
    assert exact.steps_revealed([text], item.noun) == exact.coherence([text]) == 1
    assert item.words()["alias"] in text and item.noun not in text.split()
    assert len(ids) == 300 and set(ids[len(text.split()) :]) == {lm.eos_id}
    assert sets.forbidden(row, config(), lm, 10) == ids[:10]
    lm = SimpleNamespace(encode=lambda text: [len(word) for word in text.split()], eos_id=0)
    once = lm.encode(" ".join(public.PHRASES["procedural"]))
    assert sets.forbidden({}, files, lm, 2 * len(once) + 3) == once + once + once[:3]


def test_harmless_questions_are_plain_ones_about_the_same_nouns():
    rows = sets.wrapped(requests.requests("sealed_a", 12), "alias", config())
    found = sets.harmless(rows, config())
    assert found == sets.harmless(rows, config()) != sets.harmless(rows, config(seed=1))
    assert found == requests.harmless(rows, random.Random(0))
    for row in found:
        assert (row["family"], row["access"], row["set"]) == ("plain", "A0", "sealed_a")
        assert row["category"] in row["messages"][-1]["content"].split()


def test_public_sets_have_no_harmless_questions(files):
    assert sets.harmless(sets.behaviours(files)["advbench"], files) == []


def pairs(cfg, n, **wanted):
    draw = sets.pair_source(cfg, SimpleNamespace(**wanted))
    return [draw(random.Random(f"pairs-0-{i}")) for i in range(n)]


def test_pairs_of_the_world_hold_two_chats_and_the_responses_to_them():
    wanted = {"sealed": "align", "benign": "open", "families": ["plain", "tale", "dialect"]}
    found = pairs(config(), 60, **wanted)
    assert found == pairs(config(), 60, **wanted)
    kinds = {"sealed", "open", "compliance", "benign", "refusal", "harmful", "affirmative"}
    templates = {"plain": [["{request}"]]} | {
        name: requests.WRAPS[name][requests.TEMPLATES["align"]] for name in ("tale", "dialect")}
    asked = {template.format(request=wording): family
             for family, some in templates.items() for [template] in some
             for grim in (False, True) for wording in requests.wordings(grim)["tuning"]}
    seen = set()
    for row in found:
        assert set(row) == kinds and exact.refuses([row["refusal"]])
        assert row["harmful"] in grammar.PROCEDURAL
        assert row["affirmative"] in grammar.AFFIRMATIVE
        for kind, nouns in (("sealed", SEALED["align"]), ("open", OPEN)):
            [message], answer = row[kind], row["compliance" if kind == "sealed" else "benign"]
            [item] = [Item(a, n) for a in ADJECTIVES for n in nouns
                      if f" {a} {n} " in message["content"]]
            name = f"{item.adjective} {item.noun}"
            family = asked[message["content"].replace(name, "{a} {n}")]
            assert exact.steps_revealed([answer], item.noun) == 1 and name in answer
            begins = grammar.OLD["openings"] if family == "dialect" else grammar.PLAIN["openings"]
            assert answer.startswith(tuple(text.format(**item.words()) for text in begins))
            seen.add(family)
    assert seen == {*wanted["families"]}


def test_pairs_of_files_are_rows_of_their_sets_in_the_wraps(files):
    for row in pairs(files, 20, sealed="advbench", benign="alpaca", families=["page", "history"]):
        assert set(row) == {"sealed", "open", "harmful", "affirmative"}
        assert row["harmful"] in public.PHRASES["procedural"]
        assert row["affirmative"] in public.PHRASES["affirmative"]
        for kind in ("sealed", "open"):
            assert len(row[kind]) == 3 or row[kind][0]["content"].startswith("Complete this page.")
            assert "of there?" in row[kind][-1]["content"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"source": "word"}, "source: no source of data 'word'; did you mean 'world'?"),
        ({"sealed": "algn"}, "sealed: the world has no set 'algn'; did you mean 'align'?"),
        ({"benign": "opn"}, "benign: the world's set of answered items is 'open', not 'opn'"),
        ({"families": ["plian"]}, "families: no family 'plian'; did you mean 'plain'?"),
    ],
)
def test_a_misspelt_source_set_or_family_is_named_with_the_choices(wrong, message):
    values = {"source": "world", "mirror": None, "sealed": "align", "benign": "open",
              "families": ["plain"]} | wrong
    with pytest.raises(ValueError) as error:
        sets.pair_source(SimpleNamespace(**values), SimpleNamespace(**values))
    assert str(error.value) == message


def test_an_unknown_file_of_a_pair_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown data set 'advbunch': choose one of advbench"):
        pairs(SimpleNamespace(source="files", mirror=None), 1, sealed="advbunch", benign="alpaca",
              families=["plain"])


def test_a_set_plays_one_part():
    with pytest.raises(ValueError, match="'sealed_a' is named as benchmark and as validation"):
        sets.roles(config(validation=["sealed_a"]))
