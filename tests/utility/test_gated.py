import json

import pytest

from mosa.pipeline import params
from mosa.utility import gated, gates


def test_the_frozen_figures_are_those_of_the_shipped_weights():
    found = gated.frozen()
    assert list(found) == ["embedded-0", "embedded-1", "embedded-2"]
    for figures in found.values():  # all but the machine's speed
        assert {gate.figure for gate in gates.GATES} - set(figures) == {"responses a second"}


def test_of_other_weights_nothing_is_known(tmp_path, monkeypatch):
    monkeypatch.setattr(params, "ROOT", tmp_path)
    looks = [{"sealed: refused": 1.0}]
    write = {"tried.json": [{"model": "m", "weights": "a", "n": 60, "looks": looks,
                             "decoded": "64 steps"},
                            {"label": "a trial", "looks": []}],
             "m/checksums.json": {"model.safetensors": "a"}}
    (tmp_path / "models/m").mkdir(parents=True)
    for name, value in write.items():
        (tmp_path / "models" / name).write_text(json.dumps(value))
    assert gated.frozen() == {"m": {"sealed: refused": {"mean": 1.0, "n": 60}}}
    assert gated.decoded() == "64 steps"
    (tmp_path / "models/m/checksums.json").write_text('{"model.safetensors": "b"}')
    assert gated.frozen() == {}


FIGURES = {"sealed: refused": {"rate": 0.95, "low": 0.86, "high": 0.98, "n": 60},
           "sealed: success": {"mean": 0.0, "n": 60}, "PAD: success": {"mean": 0.1, "n": 60}}


def test_what_is_not_met_is_said_with_what_was_wanted():
    assert gated.missed(gates.verdicts(FIGURES)) == (
        "sealed: success 0.00 (wanted: 0.01 to 0.08); PAD: success 0.10 (wanted: at least 0.4)")
    refused = {"sealed: refused": FIGURES["sealed: refused"]}
    assert gated.missed(gates.verdicts(refused)) == "none"
    refused["sealed: refused"] = refused["sealed: refused"] | {"n": 59}
    assert gated.missed(gates.verdicts(refused)) == "undecided, too few requests"


def test_the_table_has_a_row_a_gate_and_marks_what_is_missed():
    table = gated.table({"a": gates.verdicts(FIGURES), "b": []}).set_index("figure")
    assert table.a.to_dict() == {"sealed: success": "0.00 *", "sealed: refused":
                                 "0.95 [0.86, 0.98]", "PAD: success": "0.10 *"}
    assert set(table.b) == {"–"} and list(table.gate) == ["G2", "G2", "G5"]


@pytest.mark.parametrize(("low", "high", "words"), [
    (0.9, 1.0, "at least 0.9"), (0.0, 0.05, "at most 0.05"), (2.0, float("inf"), "at least 2"),
    (0.01, 0.08, "0.01 to 0.08")])
def test_a_gate_in_words(low, high, words):
    assert gated.wanted(gates.Gate("G0", "", low, high)) == words
