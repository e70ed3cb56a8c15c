import json

import pytest
from changing import DELETE, changed
from pydantic import ValidationError

from mosa.pipeline import params
from mosa.pipeline.params import ParamsError, Positive, Section, lists, need, section
from mosa.pipeline.sections import SCHEMAS, Data, Prefill, Sampler, Size


class Part(Section):
    rate: Positive = 0.5  # an algorithm's own default


class Whole(Section):
    parts: dict[str, Part]


class Plain(Section):
    rate: float
    n: int = 3


GOOD = {
    "profiles": ["tiny"], "models": ["original", "mosa", "LLaDA-1.5"], "methods": ["mosa"],
    "attacks": [], "attacked": [], "judges": [], "benchmarks": ["arithmetic"], "searches": [],
    "tiny": {
        "data": {"source": "world", "mirror": None, "benchmarks": ["a", "b"], "benign": "c",
                 "borderline": "d", "validation": [], "tasks": [],
                 "n_benchmark": 4, "n_benign": 4, "n_borderline": 0, "n_validation": 0,
                 "n_tasks": 0, "seed": 0},
        "sampler": {"length": 32, "steps": 32, "block_length": 32, "temperature": 0,
                    "remasking": "low_confidence", "cfg_scale": 0.0, "stop_at_eos": True,
                    "batch_size": 8},
        "prefill": {"n": 4, "positions": [0, 4, 8], "placebo": [],
                    "longer": {"length": 48, "positions": [40]},
                    "seed": 0},
        "whole": {"parts": {"first": {"rate": 1}, "second": {}}},
        "plain": {"rate": 1},
    },
    "base-0": {"plain": {"rate": 2.0}},
}
READ = {"data": Data, "sampler": Sampler, "prefill": Prefill, "whole": Whole, "plain": Plain}
DVC = """
stages:
  data: {matrix: {profile: "${profiles}"}, cmd: x}
  target: {matrix: {profile: "${profiles}"}, cmd: x}
  measure: {matrix: {profile: "${profiles}", model: "${models}"}, cmd: x}
  base: {matrix: {seed: ["0", ar]}, cmd: x}
  code: {cmd: x}
  wrong: {matrix: {profile: "${profile}"}, cmd: x}
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes params.yaml as GOOD with one value replaced: write("tiny", "data", "seed", value)."""
    monkeypatch.setattr(params, "ROOT", tmp_path)
    (tmp_path / "dvc.yaml").write_text(DVC)

    def write(*keys_and_value):
        values = changed(GOOD, *keys_and_value) if keys_and_value else GOOD
        text = json.dumps(values).replace("NaN", ".nan")  # YAML's subset
        (tmp_path / "params.yaml").write_text(text)

    return write


@pytest.fixture
def text(tmp_path, monkeypatch):
    monkeypatch.setattr(params, "ROOT", tmp_path)
    return (tmp_path / "params.yaml").write_text


def test_section_returns_the_values_typed_and_frozen(write):
    write()
    sampler = section("tiny", "sampler", Sampler)
    assert sampler.model_dump() == GOOD["tiny"]["sampler"]
    assert isinstance(sampler.temperature, float)  # an int is fine for a float
    with pytest.raises(ValidationError, match="frozen"):
        sampler.steps = 3
    assert section("tiny", "whole", Whole).parts == {"first": Part(rate=1), "second": Part()}


def test_a_schema_may_be_a_mapping_and_a_section_lie_deeper(write):
    write()
    assert section("base-0", "plain", Plain) == Plain(rate=2.0)
    assert section("tiny", "whole.parts.first", Part) == Part(rate=1)
    assert section("tiny", "whole.parts", dict[str, Part])["second"].rate == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("data", "n_benchmark", "4"), "data.n_benchmark: .*'4'.*without quotes"),
        (("data", "n_benchmark", 4.0), "data.n_benchmark: .*integer"),
        (("data", "n_benchmark", True), "data.n_benchmark: .*integer"),
        (("data", "n_benchmark", 0), "data.n_benchmark: must be greater than 0"),
        (("data", "n_tasks", -1), "data.n_tasks: must be greater than or equal to 0"),
        (("data", "benchmarks", "a"), "data.benchmarks: .*(list|array)"),
        (("data", "benchmarks", ["a", 1]), "data.benchmarks.1: .*string"),
        (("sampler", "stop_at_eos", "false"), "sampler.stop_at_eos: .*boolean"),
        (("sampler", "stop_at_eos", 1), "sampler.stop_at_eos: .*boolean"),
        (("sampler", "remasking", "low"), "sampler.remasking: .*'annealed'"),
        (("sampler", "temperature", float("nan")), "sampler.temperature: .*finite"),
        (("sampler", "step", 3), "sampler.step: unknown key; did you mean 'steps'"),
        (("sampler", "zzz", 3), "sampler.zzz: unknown key; known: length, steps"),
        (("sampler", "steps", DELETE), "sampler.steps: missing key"),
        (("sampler", DELETE), "sampler: is missing; known: data, prefill"),
        (("sampler", [1]), r"sampler: must be a mapping; it is \[1\]"),
        (("prefill", "positions", [4, 4]), "prefill.positions: .* must increase"),
        (("prefill", "positions", [-1, 4]), "prefill.positions.0: .*equal to 0"),
        (("prefill", "positions", []), "prefill.positions: "),
        (("whole", "parts", "first", "rate", "x"), "whole.parts.first.rate: .*without quotes"),
        (("whole", "parts", "first", "rat", 1), "whole.parts.first.rat: unknown key"),
        (("plain", "rat", 1), "plain.rat: unknown key; did you mean 'rate'"),
    ],
)
def test_one_line_names_the_key_and_the_cure(write, change, message):
    write("tiny", *change)
    with pytest.raises(ParamsError, match=rf"^params\.yaml: tiny\.{message}") as error:
        for name, schema in READ.items():
            section("tiny", name, schema)
    assert "\n" not in str(error.value)


def test_a_misspelt_key_is_reported_as_unknown_not_as_missing(write):
    values = dict(GOOD["tiny"]["sampler"])
    values["stpes"] = values.pop("steps")
    write("tiny", "sampler", values)
    with pytest.raises(ParamsError, match=r"sampler\.stpes: unknown key; did you mean 'steps'"):
        section("tiny", "sampler", Sampler)


def test_missing_block_and_section(write):
    write()
    for names, message in (
        (("tin", "data"), "tin: is missing; did you mean 'tiny'"),
        (("profiles", "data"), "profiles: must be a mapping"),
        (("tiny", "sample"), r"tiny\.sample: is missing; did you mean 'sampler'"),
        (("tiny", "whole.parts.frst"), r"whole\.parts\.frst: is missing; did you mean 'first'"),
        (("tiny", "data.seed.x"), r"tiny\.data\.seed: must be a mapping; it is 0"),
    ):
        with pytest.raises(ParamsError, match=message):
            section(*names, Data)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [1,\nb: 2", "line 2: is not readable YAML"),
        ("a: 1\nb: 2\na: 3", 'line 3: is not readable YAML: found duplicate key "a"'),
        ("a: {<<: *b}", "line 1: is not readable YAML: found undefined alias 'b'"),
        ("a: \x01", "is not readable YAML"),
        ("- a", "must hold"),
        ("", "must hold"),
    ],
)
def test_unreadable_files(text, content, message):
    text(content)
    with pytest.raises(ParamsError, match=message) as error:
        lists()
    assert "\n" not in str(error.value)


def test_yaml_is_read_as_dvc_reads_it(text):
    text("tiny: &tiny\n  baseline: &b {n: 4}\n  plain: {rate: 1e-3}\n"
         "quick:\n  <<: *tiny\n  baseline: {<<: *b, n: 2}\n")
    assert section("quick", "baseline", Size).n == 2
    assert section("quick", "plain", Plain) == section("tiny", "plain", Plain) == Plain(rate=0.001)


def test_missing_file(tmp_path, monkeypatch):
    monkeypatch.setattr(params, "ROOT", tmp_path)
    with pytest.raises(ParamsError, match=r"git checkout params\.yaml"):
        section("tiny", "data", Data)


def test_shared_sections_have_no_defaults():
    # no stage depends on sections.py, so no value may come from it
    for schema in SCHEMAS.values():
        assert all(field.is_required() for field in schema.model_fields.values()), schema


def test_lists(write):
    write()
    assert lists() == {key: GOOD[key] for key in params.LISTS}


# What YAML, the shell, DVC or `papermill -p` turn into something else
BAD = ["my profile", "true", True, 1, "1", 1e3, "1e3", "None", None, "../x", "a/b", "a.b", "a@b",
       "a;touch pwned", "", "yes", "No", "on", "null", "NaN", "inf", "Infinity", "n", "-a", "_a",
       "é", "a\n", "$x", "${profiles}", ["a"]]


@pytest.mark.parametrize("key", params.LISTS)
def test_a_word_that_would_be_read_as_something_else_is_no_name(write, key):
    for name in BAD:
        if (key, name) != ("models", "a.b"):
            write(key, [name])
            with pytest.raises(ParamsError, match=rf"^params\.yaml: {key}: ") as error:
                lists()
            assert "\n" not in str(error.value)
    write(key, ["a", "b2_c-D"])
    assert lists()[key] == ["a", "b2_c-D"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("profiles", []), r"profiles: must be a list of names, such as \[embedded\]"),
        (("profiles", "tiny"), "profiles: must be a list of names"),
        (("profiles", DELETE), "profiles: must be a list of names"),
        (("searches", DELETE), r"searches: must be a list of names, such as \[\]; it is None"),
        (("profiles", ["tiny", "tiny"]), "profiles: 'tiny' is listed twice"),
        (("profiles", ["code"]), "profiles: 'code' is taken"),
        (("models", ["GSAI-ML/LLaDA-1.5"]), "models: .*--local-dir models/LLaDA-1.5"),
    ],
)
def test_lists_that_are_none(write, change, message):
    write(*change)
    with pytest.raises(ParamsError, match=rf"^params\.yaml: {message}"):
        lists()


def test_axes_are_filled_from_the_lists(write):
    write()
    assert params.axes("measure") == {"profile": ["tiny"], "model": GOOD["models"]}
    assert params.axes("base") == {"seed": ["0", "ar"]} and params.axes("code") == {}
    with pytest.raises(ParamsError, match=r"^dvc\.yaml: wrong\.matrix\.profile: must be a list"):
        params.axes("wrong")


@pytest.mark.parametrize(
    ("path", "cure"),
    [
        ("results/quick/data/requests.jsonl", "run `dvc repro data@quick`"),
        ("results/quick/data", "run `dvc repro data@quick`"),
        ("results/quick/target/checkpoint/config.json", "run `dvc repro target@quick`"),
        ("results/quick/measure/mosa/rows.jsonl", "run `dvc repro measure@quick-mosa`"),
        ("results/quick/measure", "run `dvc repro measure`"),
        ("results/code/1_setting/data.py", "run `dvc repro code`"),
        ("models/embedded-0", "git checkout models` .* or `make retrain`"),
        ("paper_figures/quick/prefill/a.pdf", "run `make figures`"),
        ("elsewhere/x", "check the path"),
        ("/nowhere/x", "check the path"),
    ],
)
def test_need_names_the_cure(write, path, cure):
    write()
    with pytest.raises(FileNotFoundError, match=f"^{path} is missing: .*{cure}$"):
        need(path)


def test_need_returns_what_exists(tmp_path, monkeypatch):
    monkeypatch.setattr(params, "ROOT", tmp_path)
    (tmp_path / "results/quick/data").mkdir(parents=True)
    assert need("results/quick/data") == tmp_path / "results/quick/data"
    assert need(tmp_path / "results") == tmp_path / "results"
