"""dvc.yaml, params.yaml, notebooks, imports and environment agree; nothing is executed. First the
project's own files, then the rules themselves (tests/pipeline/wiring.py) on an example."""

import re
import subprocess
import sys
import tomllib
from itertools import combinations, product
from pathlib import Path, PurePosixPath

import grimp
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pipeline.wiring import Stage, expand, problems
from ruamel.yaml import YAML

import mosa
from mosa.alignment.method import Factorial, Method, Search
from mosa.pipeline import notebooks, params
from mosa.pipeline.closure import graph
from mosa.utility import factors

ROOT = Path(__file__).resolve().parents[1]
ATTACKS = [path.stem for path in sorted(ROOT.glob("notebooks/4_attacks/*.ipynb"))
           if (ROOT / f"mosa/attacks/{path.stem}.py").exists()] or ["any"]


def stages() -> list[Stage]:
    """Every stage of one profile, whatever is listed in params.yaml."""
    return expand(params.stages(), params.lists() | {
        "profiles": ["quick"], "searches": ["quick"], "attacks": ATTACKS})


def written() -> dict[str, str]:
    """{notebook: its code file} of the notebooks that stages run, listed attacks or not."""
    names = {stage.papermill[0] for stage in stages() if stage.papermill}
    return {name: notebooks.code(notebooks.read(ROOT / name), name)
            for name in names if (ROOT / name).exists()}


# The project's own files


def test_there_are_notebooks_and_each_is_clean():
    assert notebooks.find()
    for name in written():
        notebook = notebooks.read(ROOT / name)
        assert notebooks.strip(notebook) == notebook, (
            f"{name}: run `python -m mosa.pipeline.notebooks --strip`")


def test_every_notebook_opens_with_the_embedded_profile():
    for name, source in written().items():
        assert source.count("# %% parameters\n") == 1, name
        cell = re.search(r"^# %% parameters\n(.*?)^# %%", source, re.M | re.S)[1]
        assert 'profile = "embedded"' in cell or name.endswith("base.ipynb"), name


def test_every_stage_says_what_its_notebook_reads_and_writes():
    code = written()
    assert {path.relative_to(ROOT).as_posix() for path in notebooks.find()} <= code.keys()
    run = [stage for stage in stages() if stage.papermill and stage.papermill[0] in code]
    found = [line for stage in run for line in problems(stage, code[stage.papermill[0]])]
    assert not found, "\n" + "\n".join(found)


def test_no_committed_figure_is_of_a_stage_that_is_gone():
    for profile in ("embedded", "thorough"):
        lists = params.lists() | (params.read()[profile].get("lists") or {})
        run = expand(params.stages(), lists | {"profiles": [profile], "searches": [
            name for name in lists["searches"] if name == profile]})
        outs = {ROOT / out for stage in run for out, _ in stage.outs}
        for file in (ROOT / "paper_figures" / profile).rglob("*.*"):
            parents = {file, *file.parents}
            assert file.name == "dvc.lock" or parents & outs, f"no stage writes {file}: delete it"


def test_the_code_stage_depends_on_all_that_it_reads():
    code = params.stages()["code"]
    assert {"notebooks", "mosa"} <= {*code["deps"]} and code["outs"] == ["results/code"]
    templates = " ".join(str(stage["cmd"]) for stage in params.stages().values())
    used = {axis for name in re.findall(r"notebooks/\S+\.ipynb", templates)
            for axis in re.findall(r"\$\{item\.(\w+)\}", name)}
    said = {*code["deps"], *code.get("params", [])}
    assert "params.yaml" in said or {f"{axis}s" for axis in used} <= said


def test_every_notebook_in_git_has_a_stage():
    git = subprocess.run(["git", "ls-files", "notebooks"], cwd=ROOT, capture_output=True, text=True)
    there = {name for name in git.stdout.split() if (ROOT / name).exists()}
    assert there <= {stage.papermill[0] for stage in stages() if stage.papermill}


def test_the_index_shows_every_figure_and_table():
    code = written()
    for name, source in code.items():
        if Path(name).stem in ("search", "gcg_choices"):  # shown by their folders
            continue
        saved = re.findall(r'stage\.(table|figure)\(\w+(?:\.\w+\([^)]*\))?, "(\w+)"', source)
        assert len(saved) == len(re.findall(r"stage\.(?:table|figure)\(", source)), name
        for kind, what in saved:
            shown = f'"{what}.{"md" if kind == "table" else "png"}"'
            assert shown in code["notebooks/index.ipynb"], f"index.ipynb lacks {shown} of {name}"


def test_no_two_stages_write_to_one_place():
    found = stages()
    assert len({stage.name for stage in found}) == len(found)
    outs = [PurePosixPath(path) for stage in found for path, _ in stage.outs]
    outs += [PurePosixPath(stage.papermill[1]) for stage in found if stage.papermill]
    assert len({*outs}) == len(outs)
    assert not [out for out in outs if {*out.parents} & {*outs}]


def test_a_method_that_was_searched_is_a_setting_of_its_grid():
    search = params.section("embedded", "search", Search)
    methods = params.section("embedded", "methods", dict[str, Method])
    assert search.candidates.keys() <= methods.keys()
    for name in search.candidates:  # trained on as many pairs, which the section says there
        chosen = methods[name].model_copy(update={"rows": None})
        assert methods[name].rows == search.rows
        assert chosen in [one for (of, _), one in search.grid().items() if of == name], name


@pytest.mark.parametrize("profile", ["embedded", "quick"])
def test_every_cell_of_a_factorial_is_a_method_of_its_own_and_those_that_decide_are_cells(profile):
    cfg = params.section(profile, "factorial", Factorial)
    cells = [dict(zip(cfg.factors, levels)) for levels in product(*cfg.factors.values())]
    methods = [cfg.method(cell) for cell in cells]
    assert not [one for one, other in combinations(methods, 2) if one == other]
    deciding = [dict(zip(cfg.deciding, levels)) for levels in product(*cfg.deciding.values())]
    assert all(cell in cells for cell in deciding) and len(deciding) == 4
    halves = [factors.cells(cfg.factors, cfg.odd, half) for half in (0, 1)]
    assert sum(map(len, halves)) == len(cells)
    assert not cfg.odd or len(halves[0]) == len(halves[1])  # {}: all of them, and none


def test_imports_run_one_way():
    lint = Path(sys.executable).parent / "lint-imports"
    run = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[run.stdout.find("Contracts"):] + run.stderr


def test_every_lazy_name_is_there():
    for name, module in mosa.LAZY.items():
        assert module in graph().modules, module
        path = ROOT / f"{module.replace('.', '/')}.py"
        assert re.search(rf"^(def|class) {name}\b", path.read_text(), re.M), name
    with pytest.raises(AttributeError, match="no attribute 'sampler_'"):
        mosa.sampler_  # noqa: B018


def test_lock_satisfies_every_direct_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            name, version = line.split("==")
            lock[canonicalize_name(name)] = version.strip()
    for requirement in map(Requirement, project["dependencies"]):
        version = lock.get(canonicalize_name(requirement.name), "missing")
        assert version != "missing" and requirement.specifier.contains(version), requirement


def test_what_is_imported_is_a_direct_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    known = {canonicalize_name(Requirement(d).name) for d in project["dependencies"]}
    known |= {"ruamel"} if "ruamel-yaml" in known else set()
    known |= {"ray"} if "ray" in project["optional-dependencies"] else set()
    known |= {"pyrit"}  # mosa/serve/crosscheck/in_pyrit.py runs in an environment of its own
    imported = grimp.build_graph("mosa", include_external_packages=True, cache_dir=None).modules
    names = {canonicalize_name(m) for m in imported if m.split(".")[0] != "mosa"}
    assert names - {canonicalize_name(m) for m in sys.stdlib_module_names} <= known


def test_environment_has_no_version_of_its_own():
    environment = YAML(typ="safe").load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert sorted(re.match(r"\w+", name)[0] for name in conda) == ["pip", "python"]
    assert "pip" in conda  # only python may have a bound, and that is pyproject's
    assert pip == {"pip": ["-r requirements.lock", "-e ."]}


@pytest.mark.parametrize("name", ["search", "factorial"])
def test_settings_are_chosen_on_the_validation_split_alone(name):
    text = written()[f"notebooks/3_alignment/{name}.ipynb"]
    asked = re.findall(r"stage\.(requests|questions|read)\((\"\w+\")?", text)
    assert asked == [("requests", '"validation"')]


# The rules

DVC = {
    "code": {"cmd": "python -m mosa.pipeline.notebooks results/code", "outs": ["results/code"]},
    "measure": {
        "matrix": {"profile": "${profiles}", "model": ["original", "mosa"]},
        "cmd": "papermill notebooks/3/measure.ipynb executed/measure.${key}.ipynb "
               "-p profile ${item.profile} -p model ${item.model}",
        "deps": ["results/code/3/measure.py", "results/${item.profile}/prefill",
                 "results/${item.profile}/models/${item.model}", "results/${item.profile}/data",
                 "paper_figures/${item.profile}", "models"],
        "params": ["${item.profile}.measure", "${item.profile}.sampler", "${item.profile}.judge",
                   "${item.profile}.methods.mosa", "${item.profile}.target", "models"],
        "outs": ["results/${item.profile}/measure/${item.model}",
                 {"paper_figures/${item.profile}/measure/${item.model}": {"cache": False}}],
    },
}
NOTEBOOK = """# %% parameters
profile = "embedded"
model = "original"

# %%
stage = mosa.Stage(profile, "measure", model)
cfg, sampler = stage.cfg, stage.sampler
how = stage.section("methods.mosa", Method)
asked = stage.read("prefill") + stage.requests("primary", n=cfg.n)
for other in stage.models:
    stage.shown("tasks", other, "t.png")
rows = stage.every_run(model)[0].generate(asked, sampler) + stage.base("x").generate(asked)
stage.rows(rows)
stage.figure(fig, "one", stage.flat(rows))
stage.numbers({})
"""
GOOD = expand(DVC, {"profiles": ["embedded", "quick"]})[-1]


def lines(notebook=NOTEBOOK, **changes):
    return problems(Stage(**{**GOOD.__dict__, **changes}), notebook)


def test_expand_fills_the_matrix():
    names = [stage.name for stage in expand(DVC, {"profiles": ["embedded", "quick"]})]
    assert names == ["code", "measure@embedded-original", "measure@embedded-mosa",
                     "measure@quick-original", "measure@quick-mosa"]
    assert GOOD.papermill == ("notebooks/3/measure.ipynb", "executed/measure.quick-mosa.ipynb",
                              {"profile": "quick", "model": "mosa"})
    assert "results/quick/models/mosa" in GOOD.deps and "quick.methods.mosa" in GOOD.params
    assert GOOD.outs == (("results/quick/measure/mosa", True),
                         ("paper_figures/quick/measure/mosa", False))


def test_a_right_stage_has_no_problem():
    assert lines() == []


@pytest.mark.parametrize("dep", GOOD.deps)
def test_each_missing_dep_is_a_problem(dep):
    [line] = lines(deps=tuple(d for d in GOOD.deps if d != dep))
    assert re.fullmatch(rf"measure@quick-mosa: {dep}\S* is used but not in deps", line)


@pytest.mark.parametrize("key", GOOD.params)
def test_each_missing_param_is_a_problem(key):
    found = lines(params=tuple(p for p in GOOD.params if p != key))
    assert f"measure@quick-mosa: {key} is used but not in params" in found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"deps": (*GOOD.deps, "results/quick/order")}, "quick/order is in deps but not used"),
        ({"deps": (*GOOD.deps, "mosa/stats.py")}, r"mosa/stats\.py is in deps but not used"),
        ({"params": (*GOOD.params, "quick.order")}, r"quick\.order is in params but not used"),
        ({"params": (*GOOD.params, "embedded.judge")}, r"embedded\.judge is in params but not"),
        ({"outs": GOOD.outs[:1]}, "paper_figures/quick/measure/mosa is written but no out"),
        ({"outs": GOOD.outs[1:]}, "results/quick/measure/mosa is written but no out"),
        ({"outs": (*GOOD.outs, ("results/quick/x", True))}, "quick/x is an out but not written"),
        ({"outs": tuple((path, True) for path, _ in GOOD.outs)}, "mosa has the wrong `cache`"),
        ({"cmd": GOOD.cmd + " -p seed 0"}, "-p seed is not in the parameters cell"),
        ({"cmd": GOOD.cmd.replace("executed/", "results/")}, "is not executed/<stage>.<key>"),
        ({"cmd": GOOD.cmd.replace("3/measure.ipynb", "3/m.ipynb")}, r"code/3/m\.py is used but"),
    ],
)
def test_each_wrong_line_is_a_problem(changes, message):
    assert any(re.search(message, line) for line in lines(**changes))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"measure", model)', '"measured", model)', r"\(the name measured\)"),
        ("stage.numbers({})", "", r"\(numbers, which ends a stage that writes\)"),
        ("stage.numbers({})", "stage.numbers({})\nstage.rows([])", r"\(rows after numbers"),
        ('"methods.mosa"', 'f"methods.{other}"', r"quick\.methods\.\* is used but not in params"),
        ('stage.read("prefill")', "stage.read(other)", r"results/quick/\* is used but not in deps"),
        ("stage.every_run(model)", 'stage.targets(["x"])', "results/quick/models/x is used"),
        ("stage.every_run(model)", "stage.targets(stage.models)", r"quick\.models is used but"),
        ('stage.base("x")', "x", "models is in deps but not used"),
        ("stage.rows(rows)", 'need(f"results/{profile}/y/{other}/z")', r"quick/y/\*/z is used but"),
    ],
)
def test_each_change_of_the_notebook_is_noticed(old, new, message):
    assert old in NOTEBOOK
    assert any(re.search(message, line) for line in lines(NOTEBOOK.replace(old, new)))
