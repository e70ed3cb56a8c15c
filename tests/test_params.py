import subprocess
import sys
from copy import deepcopy

import pytest
import yaml
from pydantic import ValidationError

from mosa import params
from mosa.params import ParamsError, need, section, validate

TRAINING = {"steps": 10, "batch_size": 4, "lr": 0.001, "warmup": 2, "decay": 0.1,
            "eos_weight": 1.0, "free": 0.2, "full_share": 0.1, "prompt_share": 0.0,
            "mix": {"tasks": 1.0}}  # fmt: skip
METHOD = {
    "objective": "mosa", "rows": 4, "batch_size": 2, "learning_rate": 1.0, "max_grad_norm": 1.0,
    "lora_r": 1, "lora_alpha": 1, "safe": ["no ."], "k_start": 0, "k_end": 0, "bounds": "start",
    "eos": True, "contrast": 1.0, "bound": 0.0, "revealed": 0.0, "beta": 0.0, "benign_kl": 0.0,
    "benign_full": 1.0,
}  # fmt: skip
SUFFIX = {"suffix": ". .", "iterations": 2, "candidates": 4, "topk": 8, "samples": 0,
          "earlier": "masked", "save_every": 2, "batch_size": 8, "seed": 0}  # fmt: skip
GCG = {"n": 2, "n_aligned": 2, "models": ["original"], "trained": 0, "slack": 0, "workers": 1,
       "goals": [{"phrase": "procedural", "position": 30}], "search": SUFFIX}  # fmt: skip
GOOD = {
    "profiles": ["tiny"],
    "tiny": {
        "target": {"model": "models/x", "random_layers": 0, "dtype": "float32"},
        "data": {"source": "world", "mirror": None, "benchmarks": ["a", "b"], "benign": "c",
                 "borderline": "d", "validation": [], "tasks": [],
                 "n_benchmark": 4, "n_benign": 4, "n_borderline": 0, "n_validation": 0,
                 "n_tasks": 0, "seed": 0},
        "sampler": {"length": 32, "steps": 32, "block_length": 32, "temperature": 0,
                    "remasking": "low_confidence", "cfg_scale": 0.0, "stop_at_eos": True,
                    "batch_size": 8},
        "judge": {"name": "world", "mark": ""},
        "model": {"n_slots": 0},
        "baseline": {"n": 4},
        "prefill": {"n": 4, "affirmative": [0], "positions": [0, 4, 8], "seed": 0},
        "order": {"n": 4, "block_lengths": [32]},
        "align": {"sealed": "align", "benign": "open", "families": ["plain"], "seeds": [0],
                  "workers": 1, "methods": {"mosa": METHOD}},
        "alignment": {"n": 4},
        "gcg": GCG,
        "control": {"n": 2, "models": ["original"], "trained": 0, "slack": 1, "seed": 0,
                    "orders": [{"phrase": "procedural", "word": 5, "order": "{phrase}"}]},
        "orders": {"n": 2, "batch_size": 2, "models": ["original"], "trained": 0, "tasks": [],
                   "task_length": 8},
        "steps": {"n": 2, "batch_size": 2, "models": ["original"], "trained": 0,
                  "positions": [0, 4], "steps": [0, 2], "width": 4, "anchored": [1],
                  "anchors": ["a"], "pad_positions": [8], "form": ["a"], "gap": 2,
                  "form_positions": [0]},
        "likelihood": {"n": 2, "models": ["original"], "trained": 0},
        "twin": {"model": "models/x"},
    },
    "ablation": {
        "search": {"sealed": "align", "benign": "open", "families": ["plain"], "n": 4, "seed": 0,
                   "workers": 1, "affirmative": [0], "procedural": [20],
                   "grids": {"mosa": {"first": METHOD}},
                   "ablations": {"mosa: first": {"beta 0": METHOD}}},
        "rivals": {"sealed": "align", "benign": "open", "families": ["plain"], "seeds": [0],
                   "workers": 1, "methods": {"a2d": METHOD}},
        "gcg_more": GCG,
        "confounds": {"n": 2, "block_lengths": [32], "settings": {"as it is": SUFFIX}},
    },
    "base-0": {
        "architecture": {"hidden_size": 64, "layers": 2, "heads": 2, "intermediate_size": 128,
                         "embedding_std": 1.0, "weight_std": 0.05, "causal": False, "seed": 0},
        "facts": TRAINING, "pretraining": {**TRAINING}, "tuning": {**TRAINING},
    },
}  # fmt: skip


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes params.yaml as GOOD with one value replaced: write("tiny", "data", "seed", value)."""
    monkeypatch.setattr(params, "ROOT", tmp_path)

    def write(*keys_and_value):
        values = deepcopy(GOOD)
        if keys_and_value:
            *keys, last, value = keys_and_value
            place = values
            for key in keys:
                place = place[key]
            if value is DELETE:
                del place[last]
            else:
                place[last] = value
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))

    return write


DELETE = object()


def test_section_returns_the_values_typed_and_frozen(write):
    write()
    sampler = section("tiny", "sampler")
    assert sampler.model_dump() == GOOD["tiny"]["sampler"]
    assert isinstance(sampler.temperature, float)  # an int is fine for a float
    with pytest.raises(ValidationError, match="frozen"):
        sampler.steps = 3
    assert section("base-0", "facts").mix == {"tasks": 1.0}


def test_good_file_is_valid(write):
    write()
    validate()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("tiny", "data", "n_benchmark", "4"), "tiny.data.n_benchmark: .*'4'.*without quotes"),
        (("base-0", "facts", "lr", "1e-3"), "base-0.facts.lr: .*number.*'1e-3'.* 1.0e-3"),
        (("tiny", "data", "n_benchmark", 4.0), "tiny.data.n_benchmark: .*integer"),
        (("tiny", "data", "n_benchmark", True), "tiny.data.n_benchmark: .*integer"),
        (("tiny", "data", "n_benchmark", 0), "tiny.data.n_benchmark: must be greater than 0"),
        (("tiny", "data", "n_tasks", -1), "tiny.data.n_tasks: must be greater than or equal to 0"),
        (("tiny", "data", "benchmarks", "a"), "tiny.data.benchmarks: .*list"),
        (("tiny", "data", "benchmarks", ["a", 1]), "tiny.data.benchmarks.1: .*string"),
        (("tiny", "sampler", "stop_at_eos", "false"), "tiny.sampler.stop_at_eos: .*boolean"),
        (("tiny", "sampler", "stop_at_eos", 1), "tiny.sampler.stop_at_eos: .*boolean"),
        (("tiny", "sampler", "remasking", "low"), "tiny.sampler.remasking: .*or 'random'"),
        (("tiny", "sampler", "temperature", float("nan")), "tiny.sampler.temperature: .*finite"),
        (("tiny", "sampler", "step", 3), "tiny.sampler.step: unknown key; did you mean 'steps'"),
        (("tiny", "sampler", "zzz", 3), "tiny.sampler.zzz: unknown key; known: length, steps"),
        (("tiny", "sampler", "steps", DELETE), "tiny.sampler.steps: missing key"),
        (("tiny", "sampler", DELETE), "tiny.sampler: missing section; needs length, steps"),
        (("tiny", "sampler", [1]), r"tiny.sampler: must be a mapping; it is \[1\]"),
        (("tiny", "prefill", "positions", [4, 4]), "tiny.prefill.positions: .* must increase"),
        (("tiny", "prefill", "positions", [-1, 4]), "tiny.prefill.positions.0: .*equal to 0"),
        (("tiny", "prefill", "positions", []), "tiny.prefill.positions: "),
        (("tiny", "sampling", {}), "tiny.sampling: unknown section; did you mean 'sampler'"),
        (("base-0", "tuning", "mix", {}), "base-0.tuning.mix: "),
        (("tiny", 3), "tiny: must be a mapping; it is 3"),
        (("profiles", []), "profiles: must be a list"),
        (("profiles", "tiny"), "profiles: must be a list"),
        (("profiles", DELETE), "profiles: must be a list"),
        (("profiles", ["tinny"]), "profiles: no profile 'tinny'; did you mean 'tiny'"),
        (("profiles", ["base-0"]), "profiles: no profile 'base-0'"),
        (("profiles", ["ablation"]), "profiles: no profile 'ablation'"),
        (("tiny", "align", "methods", {}), "tiny.align.methods: "),
        (("tiny", "align", "methods", {"m": METHOD | {"beta": "1"}}),
         "tiny.align.methods.m.beta: .*without quotes"),
        (("tiny", "align", "methods", {"m": METHOD | {"windw": 1}}),
         "tiny.align.methods.m.windw: unknown key"),
        (("ablation", "search", "grids", "mosa", "first", "objective", "x"),
         "ablation.search.grids.mosa.first.objective: "),
    ],
)  # fmt: skip
def test_one_line_names_the_key_and_the_cure(write, change, message):
    write(*change)
    with pytest.raises(ParamsError, match=rf"^params\.yaml: {message}") as error:
        validate()
    assert "\n" not in str(error.value)


def test_a_misspelt_key_is_reported_as_unknown_not_as_missing(write):
    values = dict(GOOD["tiny"]["sampler"])
    values["stpes"] = values.pop("steps")
    write("tiny", "sampler", values)
    with pytest.raises(ParamsError, match=r"sampler\.stpes: unknown key; did you mean 'steps'"):
        section("tiny", "sampler")


def test_missing_block_and_section(write):
    write()
    with pytest.raises(ParamsError, match="no block 'tin'; did you mean 'tiny'"):
        section("tin", "data")
    with pytest.raises(ParamsError, match=r"tiny\.sample: unknown section; did you mean 'sampler'"):
        section("tiny", "sample")
    with pytest.raises(ParamsError, match="no block 'profiles'"):
        section("profiles", "data")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1,\nb: 2", "line 2: is not readable YAML"),
        ("a: 1\nb: 2\na: 3", "line 3: is not readable YAML: the key 'a' appears twice"),
        ("- a", "must hold"),
        ("", "must hold"),
    ],
)
def test_unreadable_files(tmp_path, monkeypatch, text, message):
    monkeypatch.setattr(params, "ROOT", tmp_path)
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParamsError, match=message) as error:
        validate()
    assert "\n" not in str(error.value)


def test_anchors_and_merges_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(params, "ROOT", tmp_path)
    text = yaml.safe_dump({"profiles": ["tiny", "smoke"], "tiny": GOOD["tiny"]}, sort_keys=False)
    text = text.replace("tiny:\n", "tiny: &tiny\n") + "smoke:\n  <<: *tiny\n  baseline: {n: 2}\n"
    (tmp_path / "params.yaml").write_text(text)
    validate()
    assert section("smoke", "baseline").n == 2
    assert section("smoke", "order") == section("tiny", "order")


def test_missing_file(tmp_path, monkeypatch):
    monkeypatch.setattr(params, "ROOT", tmp_path)
    with pytest.raises(ParamsError, match=r"git checkout params\.yaml"):
        section("tiny", "data")


def test_no_field_has_a_default():
    # stages do not depend on params.py, so a value must not come from it (pipeline_rules.py)
    for model in {**params.PROFILE, **params.BASE}.values():
        assert all(field.is_required() for field in model.model_fields.values()), model


@pytest.mark.parametrize(
    ("path", "cure"),
    [
        ("results/smoke/data/rows.jsonl", "dvc repro data@smoke"),
        ("results/smoke/data", "dvc repro data@smoke"),
        ("results/smoke/search/rows.jsonl", "dvc repro ablation/dvc.yaml:search@smoke"),
        ("results/smoke/gcg/rows.jsonl", "dvc repro gcg@smoke"),
        ("results/code/01.py", "dvc repro code"),
        ("models/embedded-0", "git checkout models.*make retrain"),
        ("paper_figures/smoke/a.pdf", "make figures"),
        ("elsewhere/x", "check the path"),
        ("/nowhere/x", "check the path"),
    ],
)
def test_need_names_the_cure(tmp_path, monkeypatch, path, cure):
    monkeypatch.setattr(params, "ROOT", tmp_path)
    with pytest.raises(FileNotFoundError, match=f"^{path} is missing: .*{cure}"):
        need(path)


def test_need_returns_what_exists(tmp_path, monkeypatch):
    monkeypatch.setattr(params, "ROOT", tmp_path)
    (tmp_path / "results/smoke/data").mkdir(parents=True)
    assert need("results/smoke/data") == tmp_path / "results/smoke/data"
    assert need(tmp_path / "results") == tmp_path / "results"


def test_command_line(tmp_path):
    # a copy, because ROOT is where the file lies
    package = tmp_path / "mosa"
    package.mkdir()
    (package / "__init__.py").touch()
    source = params.__file__
    (package / "params.py").write_text(open(source).read())

    def run(values):
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
        command = [sys.executable, "-m", "mosa.params"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    good = run(GOOD)
    assert (good.returncode, good.stdout, good.stderr) == (0, "OK\n", "")
    bad = run({**GOOD, "profiles": ["none"]})
    assert (bad.returncode, bad.stdout) == (1, "")
    assert bad.stderr == "params.yaml: profiles: no profile 'none'; known: tiny\n"
