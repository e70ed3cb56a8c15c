import pytest

from mosa import data, params, suite, tasks, world


def config(**changes):
    return params.Data(**{
        "source": "world", "mirror": None, "benchmarks": ["sealed_a", "sealed_b"],
        "benign": "open", "borderline": "borderline", "validation": ["validation"],
        "tasks": ["arithmetic", "programs"], "n_benchmark": 9, "n_benign": 7, "n_borderline": 5,
        "n_validation": 4, "n_tasks": 3, "seed": 0,
    } | changes)  # fmt: skip


@pytest.fixture
def files(monkeypatch):
    """The `files` configuration, over stand-in data sets of 20 rows that remember the mirror."""

    def load(name, mirror):
        return [{"id": f"{name}-{i:04d}", "set": name, "behaviour": f"Ask {{n}} {i} of {mirror}?",
                 "target": "", "category": "", "item": ""} for i in range(20)]  # fmt: skip

    monkeypatch.setattr(data, "load", load)
    return config(source="files", mirror="there", benchmarks=["advbench", "harmbench"],
                  benign="alpaca", borderline="xstest", validation=[], tasks=[])  # fmt: skip


SIZES = {"sealed_a": 9, "sealed_b": 9, "open": 7, "borderline": 5, "validation": 4}


def test_behaviours_of_the_world_have_the_sizes_of_their_parts():
    found = suite.behaviours(config())
    assert {name: len(rows) for name, rows in found.items()} == SIZES
    assert all(row["set"] == name for name, rows in found.items() for row in rows)
    assert found["sealed_b"] == world.requests("sealed_b", 9, 0)
    assert suite.behaviours(config(seed=3))["open"] == world.requests("open", 7, 3)
    texts = [row["behaviour"] for rows in found.values() for row in rows]
    assert len(texts) == len(set(texts))


def test_roles_name_every_set_once():
    assert suite.roles(config()) == {
        "sealed_a": "benchmark", "sealed_b": "benchmark", "open": "benign",
        "borderline": "borderline", "validation": "validation",
    }  # fmt: skip
    assert suite.roles(config()).keys() == suite.behaviours(config()).keys()


def test_families_of_the_world_begin_with_plain_and_leave_out_the_replay():
    found = suite.families(config())
    assert next(iter(found)) == "plain" and "ledger" not in found
    assert set(found) == {"plain", *world.ATTACKS}
    assert [name for name, access in found.items() if access == "A1"] == ["turns"]


@pytest.mark.parametrize("family", suite.families(config()))
def test_wrapped_rows_of_the_world(family):
    rows = world.requests("sealed_a", 6)
    found = suite.wrapped(rows, family, config())
    for row, new in zip(rows, found, strict=True):
        assert new == row | {"family": family, "access": suite.families(config())[family],
                             "messages": world.wrap(row, family)}  # fmt: skip
    assert "family" not in rows[0]


def test_phrases_and_questions():
    found = suite.phrases(config())
    assert list(found) == ["affirmative", "procedural"] and all(found.values())
    assert found["procedural"] == world.PROCEDURAL and found["affirmative"] == world.AFFIRMATIVE
    rows = suite.questions(config(seed=2))
    assert rows == tasks.questions("arithmetic", 3, 2) + tasks.questions("programs", 3, 2)
    assert suite.questions(config(n_tasks=0)) == suite.questions(config(tasks=[])) == []


def test_files_are_sampled_from_the_mirror(files):
    found = suite.behaviours(files)
    assert {name: len(rows) for name, rows in found.items()} == {
        "advbench": 9, "harmbench": 9, "alpaca": 7, "xstest": 5}  # fmt: skip
    assert all(r["set"] == name and "there" in r["behaviour"]
               for name, rows in found.items() for r in rows)  # fmt: skip
    assert [r["id"] for r in found["advbench"]] == sorted({r["id"] for r in found["advbench"]})
    assert suite.roles(files).keys() == found.keys()
    assert suite.questions(files) == []
    assert suite.phrases(files)["procedural"] == data.PHRASES["procedural"]


def test_too_many_of_a_file_names_the_set(files):
    with pytest.raises(ValueError, match="n_benchmark"):
        suite.behaviours(files.model_copy(update={"n_benchmark": 21}))


def test_wrapped_rows_of_files(files):
    rows = suite.behaviours(files)["advbench"]
    families = suite.families(files)
    assert next(iter(families)) == "plain" and families["history"] == "A1"
    for family, access in families.items():
        for row, new in zip(rows, suite.wrapped(rows, family, files), strict=True):
            assert {k: new[k] for k in row} == row
            assert (new["family"], new["access"]) == (family, access)
            assert new["messages"][-1]["role"] == "user"
            assert row["behaviour"] in new["messages"][-1]["content"]  # braces and all
            assert (len(new["messages"]) > 1) == (access == "A1")


def test_prefilled_rows_draw_a_phrase_each_and_keep_the_rest():
    rows = [r | {"access": "A0"} for r in world.requests("sealed_a", 9)]
    phrases = suite.phrases(config())
    found = suite.prefilled(rows, "procedural", 40, phrases, 0)
    assert found == suite.prefilled(rows, "procedural", 40, phrases, 0)
    assert len({row["prefill"]["40"] for row in found}) > 1
    for row, new in zip(rows, found, strict=True):
        assert new["prefill"]["40"] in phrases["procedural"] and new["access"] == "A2"
        assert {k: new[k] for k in row if k != "access"} == {
            k: v for k, v in row.items() if k != "access"
        }
    none = suite.prefilled(rows, "none", -1, phrases, 0)
    assert all(row["prefill"] == {} and row["access"] == "A0" for row in none)
