"""dvc.yaml, params.yaml, notebooks and environment agree; nothing is executed. First the
project's own files, then the rules themselves (tests/pipeline_rules.py) on small examples."""

import ast
import csv
import json
import re
import tomllib
from pathlib import Path, PurePosixPath

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pipeline_rules import (
    NOT_TRACKED,
    Stage,
    closure,
    defaults,
    expand,
    exports,
    imports,
    is_names_only,
    paths,
    problems,
    sections,
    texts,
)

import mosa.notebooks
import mosa.params

ROOT = Path(__file__).resolve().parents[1]

# The project's own files


def modules():
    return {p.relative_to(ROOT).as_posix(): p.read_text() for p in ROOT.glob("mosa/**/*.py")}


def stages():
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    # every block, not only those that `dvc repro` runs here: the paper's stages are checked too
    params["profiles"] = [name for name in params if name in ("embedded", "smoke", "rehearsal")]
    found = expand(yaml.safe_load((ROOT / "dvc.yaml").read_text()), params)
    group = yaml.safe_load((ROOT / "ablation/dvc.yaml").read_text())
    return found + expand(group, {**params, **group["vars"][0]})


def test_there_are_notebooks_and_each_is_clean():
    notebooks = mosa.notebooks.find()
    assert notebooks
    dirty = {path.name: mosa.notebooks.check(path) for path in notebooks}
    assert not {name: problems for name, problems in dirty.items() if problems}, (
        "run `python -m mosa.notebooks --strip`"
    )


def test_every_stage_depends_on_what_its_code_uses():
    folder = ROOT / "notebooks"
    code = {}
    for path in mosa.notebooks.find():
        name = path.relative_to(folder).with_suffix(".py").as_posix()
        code[f"results/code/{name}"] = mosa.notebooks.code(json.loads(path.read_text()), name)
    styles = {p.relative_to(ROOT).as_posix() for p in ROOT.glob("mosa/*.mplstyle")}
    found = [line for stage in stages() for line in problems(stage, code, modules(), styles)]
    assert not found, "\n" + "\n".join(found)


def test_every_notebook_has_a_stage():
    run = {stage.papermill[0] for stage in stages() if stage.papermill}
    assert run == {p.relative_to(ROOT).as_posix() for p in mosa.notebooks.find()}


def test_no_two_stages_write_to_one_place():
    outs = [PurePosixPath(out) for stage in stages() for out in stage.outs]
    assert len(set(outs)) == len(outs)
    assert not [out for out in outs if set(out.parents) & set(outs)]


def test_params_are_valid_and_reach_the_stages_unchanged():
    mosa.params.validate()
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for block in set(params) - {"profiles"}:
        for name, values in params[block].items():
            assert mosa.params.section(block, name).model_dump() == values


def test_what_is_measured_on_the_benchmarks_is_what_the_search_chose():
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    used = params["embedded"]["align"]["methods"] | params["ablation"]["rivals"]["methods"]
    with open(ROOT / "paper_figures/embedded/search.csv", newline="") as file:
        chosen = dict(row["setting"].split(": ") for row in csv.DictReader(file)
                      if row["rule"] == "chosen")  # fmt: skip
    grids = params["ablation"]["search"]["grids"]
    assert chosen.keys() == grids.keys()
    for method, setting in chosen.items():
        assert used[method] == grids[method][setting], method


def test_package_init_holds_names_only():
    source = (ROOT / "mosa/__init__.py").read_text()
    assert is_names_only(source)
    for name, module in exports(modules()).items():
        path = f"{module.replace('.', '/')}.py"
        path = path if (ROOT / path).exists() else path.replace(".py", "/__init__.py")
        assert re.search(rf"\b{name}\b", (ROOT / path).read_text()), name


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


def test_environment_has_no_version_of_its_own():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert sorted(re.match(r"\w+", name)[0] for name in conda) == ["pip", "python"]
    assert "pip" in conda  # only python may have a bound, and that is pyproject's
    assert pip == {"pip": ["-r requirements.lock", "-e ."]}


# The rules

INIT = '''"""Docstring."""
from typing import TYPE_CHECKING
_EXPORTS = {"load": "mosa.models", "denoise": "mosa.sampler"}
__all__ = sorted(_EXPORTS)
if TYPE_CHECKING:
    from mosa.models import load
def __getattr__(name):
    from mosa import stats
'''
MODULES = {
    "mosa/__init__.py": INIT,
    "mosa/params.py": "import yaml",
    "mosa/data.py": "from mosa.params import ROOT",
    "mosa/models.py": "import torch",
    "mosa/diffusion.py": "from mosa.models import load",
    "mosa/sampler.py": "def f():\n    from . import diffusion",
    "mosa/stats.py": "import scipy",
    "mosa/paper.py": "from mosa import params\nstyle = 'mosa.paper'",
    "mosa/attacks/__init__.py": "",
    "mosa/attacks/base.py": "from ..stats import rate",
    "mosa/attacks/gcg.py": "from .base import budget",
    "mosa/attacks/pair.py": "from . import base",
}
STYLES = {"mosa/paper.mplstyle"}


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import os, mosaic", ""),
        ("import mosa", "__init__"),
        ("import mosa.stats", "__init__ stats"),
        ("import mosa.stats as s", "__init__ stats"),
        ("from mosa import stats, models", "__init__ stats models"),
        ("from mosa.stats import rate", "__init__ stats"),
        ("from mosa import load", "__init__ models"),
        ("import mosa\nlm = mosa.load(x)\nmosa.__name__", "__init__ models"),
        ("import mosa as m\nm.denoise(x)", "__init__ sampler"),
        ("import mosa.stats\nmosa.load", "__init__ stats models"),
        ("def f():\n    from mosa import stats", "__init__ stats"),
        ("from mosa.attacks import gcg", "__init__ attacks/__init__ attacks/gcg"),
        ("import mosa\nmosa.attacks.gcg.run()", "__init__ attacks/__init__ attacks/gcg"),
        ("x.mosa.load", ""),
    ],
)
def test_imports_of_a_source(source, names):
    assert imports(source, MODULES) == {f"mosa/{name}.py" for name in names.split()}


def test_closure_follows_imports_and_skips_the_init_and_lazy_imports():
    found = closure("from mosa.sampler import denoise", MODULES)
    assert found == {"mosa/sampler.py", "mosa/diffusion.py", "mosa/models.py"}
    found = closure("from mosa.attacks.gcg import run", MODULES)
    gcg = {"mosa/attacks/__init__.py", "mosa/attacks/gcg.py", "mosa/attacks/base.py"}
    assert found == gcg | {"mosa/stats.py"}
    assert "mosa/attacks/base.py" in closure("from mosa.attacks import pair", MODULES)


def test_an_eager_import_of_the_init_counts_for_all():
    eager = MODULES | {"mosa/__init__.py": "from mosa.data import rows"}
    assert closure("import mosa.stats", eager) == {
        "mosa/stats.py",
        "mosa/data.py",
        "mosa/params.py",
    }
    assert closure("import os", eager) == set()


def test_an_unknown_name_is_an_error():
    for source in ("from mosa import sampl", "import mosa\nmosa.sampl", "import mosa.sampl"):
        with pytest.raises(ValueError, match=r"mosa\.sampl "):
            imports(source, MODULES)


def test_exports_in_both_shapes():
    expected = {"load": "mosa.models", "denoise": "mosa.sampler"}
    for table in ('{"load": "models", "denoise": ".sampler"}',
                  '{"models": ["load"], "mosa.sampler": ("denoise",)}'):  # fmt: skip
        assert exports({"mosa/__init__.py": f"T = {table}"}) == expected
    assert exports(MODULES) == expected


def test_names_only():
    assert is_names_only(INIT)
    assert not is_names_only("import torch\ntorch.manual_seed(0)")
    assert not is_names_only("seed = torch.manual_seed(0)")
    assert not is_names_only("def load(): pass")


def test_expand_fills_the_matrix():
    dvc = {
        "stages": {
            "code": {"cmd": "python -m mosa.notebooks results/code", "outs": ["results/code"]},
            "attack": {
                "matrix": {"profile": "${profiles}", "model": ["base", "aligned"]},
                "cmd": "papermill a.ipynb executed/a.${key}.ipynb -p profile ${item.profile}",
                "deps": ["results/${item.profile}/data"],
                "params": ["${item.profile}.attack", {"params.yaml": ["base.facts"]}],
                "outs": [{"results/${item.profile}/attack/${item.model}": {"cache": False}}],
                "metrics": ["results/${item.profile}/attack/n.${embedded.data.n}.json"],
            },
        }
    }
    params = {"profiles": ["embedded", "smoke"], "embedded": {"data": {"n": 4}}}
    found = {stage.name: stage for stage in expand(dvc, params)}
    assert list(found) == ["code"] + [
        f"attack@{p}-{m}" for p in ("embedded", "smoke") for m in ("base", "aligned")
    ]
    stage = found["attack@smoke-aligned"]
    assert stage.papermill == ("a.ipynb", "executed/a.smoke-aligned.ipynb", {"profile": "smoke"})
    assert stage.deps == ("results/smoke/data",)
    assert stage.params == ("smoke.attack", "base.facts")
    assert stage.outs == ("results/smoke/attack/aligned", "results/smoke/attack/n.4.json")


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("'a'", "a"),
        ("profile", "embedded"),
        ("other", "*"),
        ("f'results/{profile}/{x.y}/{other:03d}.json'", "results/embedded/*/*.json"),
        ("'results/' + profile", "results/embedded"),
        ("ROOT / 'results' / profile / 'x'", "results/embedded/x"),
        ("f()", None),
    ],
)
def test_texts(expression, text):
    assert texts(ast.parse(expression, mode="eval").body, {"profile": "embedded"}) == text


def test_sections_resolve_names_and_literals():
    source = 'section(profile, "data"); params.section("base", name="tuning"); section(profile, x)'
    assert sections(source, {"profile": "smoke"}) == {"smoke.data", "base.tuning", "smoke.*"}


def test_paths_are_found_wherever_they_stand():
    source = """"results/in/a/docstring"
rows = read_jsonl(need(f"results/{profile}/data") / "a.jsonl")
load(ROOT / f"models/{name}-{seed}")
print("see results/ for more")
save_numbers(profile, "prefill", {})
merge_numbers(profile, ["data", "order"])
save_figure(fig, "fig1", profile, data)
save_table(frame, name="tab1", profile=profile)
"""
    used, drawn = paths(source, {"profile": "embedded", "name": "embedded"})
    assert used == {
        "results/embedded/data",
        "models/embedded-*",
        "results/embedded/prefill/numbers.json",
        "results/embedded/data/numbers.json",
        "results/embedded/order/numbers.json",
    }
    figure = {f"paper_figures/embedded/fig1.{suffix}" for suffix in ("pdf", "png", "csv")}
    assert drawn == figure | {f"paper_figures/embedded/tab1.{s}" for s in ("csv", "md", "tex")}


def test_defaults_are_those_of_the_parameters_cell():
    source = "# head\n# %%\na = 1\n# %% parameters\nprofile = 'embedded'\nn = 3\n# %%\nb = 2\n"
    assert defaults(source) == {"profile": "embedded", "n": 3}
    assert defaults("a = 1") == {}


NOTEBOOK = """# %% parameters
profile = "embedded"

# %%
from mosa import denoise
from mosa.params import need, section
from mosa.paper import save_figure
cfg, base = section(profile, "order"), section("base", "facts")
rows = read_jsonl(need(f"results/{profile}/data/rows.jsonl"))
write_jsonl(f"results/{profile}/order/rows.jsonl", rows)
save_figure(fig, "order", profile, data)
"""
GOOD = Stage(
    name="order@smoke",
    cmd="papermill notebooks/07_order.ipynb executed/07_order.smoke.ipynb -p profile smoke",
    deps=("results/code/07_order.py", "results/smoke/data", "mosa/sampler.py", "mosa/diffusion.py",
          "mosa/models.py", "mosa/paper.py", "mosa/paper.mplstyle"),
    params=("smoke.order", "base.facts"),
    outs=("results/smoke/order", "paper_figures/smoke/order.pdf", "paper_figures/smoke/order.png",
          "paper_figures/smoke/order.csv"),
)  # fmt: skip


def lines(**changes):
    stage = Stage(**{**GOOD.__dict__, **changes})
    return problems(stage, {"results/code/07_order.py": NOTEBOOK}, MODULES, STYLES)


def test_a_right_stage_has_no_problem():
    assert lines() == []
    assert lines(outs=("results/smoke/order", "paper_figures/smoke")) == []


@pytest.mark.parametrize("dep", GOOD.deps)
def test_each_missing_dep_is_a_problem(dep):
    [line] = lines(deps=tuple(d for d in GOOD.deps if d != dep))
    assert line.startswith(f"order@smoke: {dep}")


@pytest.mark.parametrize("key", GOOD.params)
def test_each_missing_param_is_a_problem(key):
    [line] = lines(params=tuple(p for p in GOOD.params if p != key))
    assert line == f"order@smoke: section {key} is read but not in params"


@pytest.mark.parametrize("out", GOOD.outs)
def test_each_missing_out_is_a_problem(out):
    [line] = lines(outs=tuple(o for o in GOOD.outs if o != out))
    assert line.startswith(f"order@smoke: {out}")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"deps": (*GOOD.deps, "mosa/stats.py")}, "mosa/stats.py is a dep but not imported"),
        ({"deps": (*GOOD.deps, "mosa/gone.py")}, "mosa/gone.py does not exist"),
        ({"deps": (*GOOD.deps, "mosa/params.py")}, "would rerun every stage"),
        ({"deps": (*GOOD.deps, "executed/07_order.smoke.ipynb")}, "executed/.* is a dep"),
        ({"deps": (*GOOD.deps, "notebooks/07_order.ipynb")}, "depend on results/code"),
        ({"params": (*GOOD.params, "smoke.data")}, "params has smoke.data, which is not read"),
        ({"outs": (*GOOD.outs, "executed/07_order.smoke.ipynb")}, "executed/.* is an out"),
        ({"outs": (*GOOD.outs, "results/smoke/data")}, "need.. would name another stage"),
        ({"outs": (*GOOD.outs, "results/embedded/order")}, "need.. would name another stage"),
        ({"cmd": GOOD.cmd + " -p model base"}, "-p model is not in the parameters cell"),
        ({"cmd": GOOD.cmd.replace("executed/", "results/")}, "is not under executed/"),
        ({"cmd": GOOD.cmd.replace("07_order.ipynb", "08.ipynb")}, "there is no notebooks/08.ipynb"),
    ],
)
def test_each_wrong_line_is_a_problem(changes, message):
    [line] = lines(**changes)
    assert re.search(message, line)


def test_a_folder_dep_covers_all_below_it_and_so_too_much():
    found = lines(deps=(*(d for d in GOOD.deps if not d.startswith("mosa")), "mosa"))
    assert "order@smoke: mosa/stats.py is a dep but not imported" in found
    assert not any("no dep" in line for line in found)


def test_a_module_stage_is_checked_too():
    stage = Stage(
        "code", "python -m mosa.data x", ("notebooks", "mosa/data.py"), (), ("results/code",)
    )
    assert problems(stage, {}, MODULES) == []
    [line] = problems(Stage("code", stage.cmd, ("notebooks",), (), stage.outs), {}, MODULES)
    assert line == "code: mosa/data.py is imported but no dep"


def test_untracked_files_exist():
    assert set(modules()) >= NOT_TRACKED
