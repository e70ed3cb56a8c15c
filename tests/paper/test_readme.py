import json
import re
from pathlib import Path

import pytest

from mosa.paper import readme
from mosa.pipeline import params

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text("utf-8")


def test_readme_shows_what_the_generator_gives():
    assert readme.rewritten(TEXT, readme.generated()) == TEXT, "run `python -m mosa.paper.readme`"


def test_the_larger_run_shows_what_the_generator_gives():
    text = (ROOT / f"paper_figures/{readme.LARGER}.md").read_text("utf-8")
    assert text == readme.larger_run(), "run `python -m mosa.paper.readme`"


def test_readme_is_short():
    assert len(TEXT.splitlines()) <= 120


def test_every_file_the_readme_links_to_exists():
    links = re.findall(r"\]\(((?!http)[^)]+)\)", TEXT)
    assert links
    for link in links:
        assert (ROOT / link).exists(), f"README.md links to {link}"


@pytest.mark.parametrize("name", ["claims", "table", "costs", "tree", "stages"])
@pytest.mark.parametrize("marker", ["<!-- {}: python -m mosa.paper.readme -->",
                                    "<!-- end of {} -->"])
def test_lost_markers_are_named(name, marker):
    marker = marker.format(name)
    assert marker in TEXT
    with pytest.raises(ValueError, match=re.escape(marker)):
        readme.rewritten(TEXT.replace(marker, ""), {name: "x"})


def test_a_part_is_replaced_and_all_else_is_left():
    text = "a\n<!-- x: python -m mosa.paper.readme -->\nold\n<!-- end of x -->\nb\n"
    new = readme.rewritten(text, {"x": r"new \1"})
    assert new == text.replace("old", r"new \1")
    assert readme.rewritten(new, {"x": r"new \1"}) == new


def test_table_has_a_row_for_each_model_and_names_a_missing_number():
    rate = {"k": 1, "n": 4, "rate": 0.25, "low": 0.0456, "high": 0.699}
    keys = ["plain/success", "plain/plain/success", *readme.COLUMNS.values()]
    numbers = {f"{model}/{key}": rate for model in ("original", "mosa") for key in keys}
    numbers |= {"models": ["original", "mosa"], "shows": ["x"]}
    numbers["mosa/late/success"] = rate | {"n": 8}
    lines = readme.table(dict(sorted(numbers.items()))).splitlines()  # as numbers.json has them
    assert [line.split("|")[1] for line in lines[2:]] == [" `original` ", " `mosa` "]
    assert "| plain: refused (n=4) |" in lines[0]
    assert "(n=" not in lines[2] and lines[3].count("(n=8)") == 1
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith("| `original` | 25.0 [4.6, 69.9] |")
    del numbers["mosa/task/arithmetic"]
    with pytest.raises(ValueError, match="no 'mosa/task/arithmetic': run `make`"):
        readme.table(numbers)


def test_gates_say_what_was_not_met_when_frozen_and_again_without_repeating_it():
    text = readme.gates(["a misses x"], ["a misses x", "a, 72 requests, misses y"])
    assert text.count("a misses x") == 1 and text.endswith("gates.md)): a, 72 requests, misses y.")


def test_claims_stand_beside_what_the_run_shows():
    def numbers(stage):
        return {key: [f"{key} {stage} 1", f"{key} {stage} 2"] for key in ("shows", "verdicts")}

    text = readme.claims("embedded", numbers)
    lines = text.splitlines()
    assert "128 slots, 64 steps (Figure 5 and order: 32)" in lines[0]
    assert len(lines) == 2 + len(readme.CLAIMS)
    assert len({line.count("|") for line in lines}) == 1
    for line, (key, (where, claim)) in zip(lines[2:], readme.CLAIMS.items(), strict=True):
        stage, second, _ = key.partition("/")
        own = f"{stage} {2 if second else 1}"
        assert line == f"| {where} | {claim} | verdicts {own} | shows {own} |"


def test_a_larger_run_s_verdicts_stand_beside_where_they_are_others():
    def numbers(stage, run="small"):
        same = stage == "order"
        return {key: [f"{'both' if same else run} {key} {stage}"] * 2
                for key in ("shows", "verdicts")}

    text = readme.claims("embedded", numbers, lambda stage: numbers(stage, "large"))
    lines = text.splitlines()
    assert "[larger run](paper_figures/thorough.md)" in lines[0]
    assert ("| small verdicts twin. *In the larger run*: large verdicts twin | small shows twin |"
            in text)
    assert "| both verdicts order | both shows order |" in text
    assert ("| *In the larger run*: large verdicts tables. *In the default run*: small verdicts "
            "tables | large shows tables |" in text)
    assert len({line.count("|") for line in lines}) == 1


def test_costs_are_those_of_the_benches():
    epoch = {"seconds_of_3000_pairs": 227.8, "peak_gib": 22.2, "utilisation": 0.39}
    text = readme.costs({"times_faster": 2.61, "peak_memory_share": 0.433}, {
        "device": "NVIDIA X", "as printed": epoch,
        "least memory": epoch | {"peak_gib": 17.1, "pairs": 200}})
    for part in ("2.6 times", "43 % of its memory", "one NVIDIA X", "228 s in", "22 GiB and 39 %",
                 "from 200 pairs, 228 s and 17 GiB"):
        assert part in text


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Two modules, a package, and three stages, one of them with two notebooks."""
    monkeypatch.setattr(params, "ROOT", tmp_path)
    files = {
        "mosa/__init__.py": '"""All of it."""\n',
        "mosa/lm/__init__.py": '"""A model.\n\nMore.\n"""\n',
        "mosa/stage.py": '"""What a notebook opens with."""\n',
        "dvc.yaml": "stages:\n"
                    "  code:   # cells as files\n    cmd: python -m mosa.pipeline.notebooks out\n"
                    "  prefill:   # Figure 3\n    matrix: {profile: \"${profiles}\"}\n"
                    "    cmd: papermill notebooks/2/prefill.ipynb x.ipynb -p profile ${key}\n"
                    "  attack:   # one attack\n"
                    "    cmd: papermill notebooks/4/${item.attack}.ipynb x.ipynb\n"
                    "  tables:\n    cmd: papermill notebooks/4/tables.ipynb x.ipynb\n",
        "notebooks/2/prefill.ipynb": json.dumps({"cells": [{"source": ["# Where | when\n", "x"]}]}),
        "notebooks/4/dia.ipynb": json.dumps({"cells": [{"source": "# DIA"}]}),
        "notebooks/4/tables.ipynb": json.dumps({"cells": [{"source": "# All"}]}),
        "notebooks/4/tap.ipynb": json.dumps({"cells": [{"source": "# TAP"}]}),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    return tmp_path


def test_tree_has_the_first_lines_of_the_docstrings(project):
    lines = readme.tree().splitlines()
    assert lines[0] == lines[-1] == "```"
    found = dict(line.split(maxsplit=1) for line in lines[1:-1])
    assert found["mosa/"] == "All of it." and found["lm/"] == "A model."
    assert found["stage.py"] == "What a notebook opens with."
    assert len({len(line) - len(line.split(maxsplit=1)[1]) for line in lines[1:-1]}) == 1


def test_stage_map_shows_notebooks_and_their_titles(project):
    assert readme.stage_map().splitlines() == [
        "- **2**: [`prefill`](notebooks/2/prefill.ipynb) Where | when",
        "- **4**: [`attack`](notebooks/4) one attack; [`tables`](notebooks/4/tables.ipynb) All",
    ]
