import csv
import hashlib
import json
import os
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import replace
from http.client import IncompleteRead
from io import BytesIO, StringIO

import pytest

from mosa.data import registry

# Every synthetic field hides what breaks naive readers: a comma, a quote, a line break, an accent.
TABLE = [
    {"text": 'Boil water, then\r\nsay "tea"', "answer": "Sure, 1", "kind": "kitchen", "use": "yes"},
    {"text": "Fold a paper boat", "answer": "Sure, 2", "kind": "paper", "use": "no"},
    {"text": "Paint a café {table}", "answer": "Sure, 3", "kind": "paint", "use": "yes"},
]
URL = "https://example.org/toy"


def as_csv(table):
    out = StringIO(newline="")
    writer = csv.DictWriter(out, table[0].keys())
    writer.writeheader()
    writer.writerows(table)
    return out.getvalue().encode()


def entry(content, file="toy/toy.csv", **changes):
    plain = registry.DataSet(
        name="toy", url=URL, sha256=hashlib.sha256(content).hexdigest(), file=file, rows=3,
        licence="none", source="these tests", behaviour="text", target="answer", category="kind")
    return replace(plain, **changes)


@pytest.fixture
def place(monkeypatch, tmp_path):
    """No network, no mirror, an empty cache; place(content, ...) registers and stores a toy set."""
    monkeypatch.delenv("MOSA_DATA_MIRROR", raising=False)
    monkeypatch.setenv("MOSA_CACHE", str(tmp_path / "cache"))

    def unreachable(*args, **kwargs):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)

    def store(content, folder="mirror", **changes):
        dataset = entry(content, **changes)
        monkeypatch.setattr(registry, "DATASETS", {"toy": dataset})
        if folder:
            path = tmp_path / folder / dataset.file
            path.parent.mkdir(parents=True)
            path.write_bytes(content)
        return tmp_path / (folder or "mirror")

    return store


def serve(monkeypatch, content):
    """urlopen answers with `content` and notes each call."""
    calls = []

    def urlopen(url, timeout):
        calls.append((url, timeout))
        return BytesIO(content)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return calls


def one_line(error):
    message = str(error.value)
    assert "\n" not in message
    return message


# --- rows ----------------------------------------------------------------------------------------


def test_rows_have_the_schema_and_the_exact_text(place):
    rows = registry.load("toy", place(as_csv(TABLE)))
    assert rows[0] == {
        "id": "toy-0000", "set": "toy", "behaviour": 'Boil water, then\r\nsay "tea"',
        "target": "Sure, 1", "category": "kitchen", "item": "",
    }
    assert [row["behaviour"] for row in rows] == [row["text"] for row in TABLE]


def test_columns_a_set_does_not_have_are_empty_strings(place):
    rows = registry.load("toy", place(as_csv(TABLE), target="", category=""))
    assert {(row["target"], row["category"]) for row in rows} == {("", "")}


def test_a_subset_keeps_the_row_numbers_of_the_whole_file(place):
    rows = registry.load("toy", place(as_csv(TABLE), keep=("use", "yes")))
    assert [row["id"] for row in rows] == ["toy-0000", "toy-0002"]


def test_json_lists_are_read_like_tables(place):
    mirror = place(json.dumps(TABLE).encode(), file="toy/toy.json")
    texts = [row["text"] for row in TABLE]
    assert [row["behaviour"] for row in registry.load("toy", mirror)] == texts


def test_a_wrong_number_of_rows_is_refused(place):
    mirror = place(as_csv(TABLE), rows=4)
    with pytest.raises(ValueError, match=r"toy\.csv: 3 rows, expected 4") as error:
        registry.load("toy", mirror)
    assert "mosa/data/registry.py" in one_line(error)


@pytest.mark.parametrize("file", ["toy/toy.csv", "toy/toy.json"])
def test_missing_columns_are_named(place, file):
    short = [{"text": row["text"], "kind": row["kind"]} for row in TABLE]
    content = as_csv(short) if file.endswith("csv") else json.dumps(short).encode()
    mirror = place(content, file=file, keep=("use", "yes"))
    with pytest.raises(ValueError, match="column answer, use is missing") as error:
        registry.load("toy", mirror)
    assert "toy" in one_line(error)


def test_an_unknown_name_lists_the_known_ones():
    names = "advbench, harmbench, alpaca, xstest"
    with pytest.raises(ValueError, match=f"'advbunch': choose one of {names}") as error:
        registry.fetch("advbunch")
    one_line(error)


# --- places --------------------------------------------------------------------------------------


def test_a_wrong_hash_is_refused_with_file_hashes_and_cure(place):
    content = as_csv(TABLE)
    mirror = place(content)
    path = mirror / "toy" / "toy.csv"
    path.write_bytes(content + b" ")
    with pytest.raises(ValueError) as error:
        registry.load("toy", mirror)
    message = one_line(error)
    assert str(path) in message
    assert hashlib.sha256(content).hexdigest() in message
    assert hashlib.sha256(content + b" ").hexdigest() in message
    assert URL in message and "delete" in message


def test_converted_line_ends_are_a_wrong_hash(place):
    mirror = place(as_csv(TABLE))
    path = mirror / "toy" / "toy.csv"
    path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n"))
    with pytest.raises(ValueError, match="sha256"):
        registry.fetch("toy", mirror)


def test_a_cached_file_is_verified_too(place):
    cache = place(as_csv(TABLE), folder="cache")
    assert registry.fetch("toy") == cache / "toy" / "toy.csv"
    (cache / "toy" / "toy.csv").write_bytes(b"half a fi")
    with pytest.raises(ValueError, match="sha256"):
        registry.fetch("toy")


def test_order_is_argument_then_variable_then_cache(place, monkeypatch, tmp_path):
    content = as_csv(TABLE)
    for folder in ("cache", "variable", "argument"):
        place(content, folder=folder)
    monkeypatch.setenv("MOSA_DATA_MIRROR", str(tmp_path / "variable"))
    found = [registry.fetch("toy", tmp_path / "argument"), registry.fetch("toy")]
    monkeypatch.delenv("MOSA_DATA_MIRROR")
    found += [registry.fetch("toy"), registry.fetch("toy", tmp_path / "absent")]
    assert [path.relative_to(tmp_path).parts[0] for path in found] == [
        "argument", "variable", "cache", "cache"]


def test_a_relative_mirror_is_relative_to_the_project(place, monkeypatch, tmp_path):
    mirror = place(as_csv(TABLE))
    monkeypatch.setattr(registry, "ROOT", tmp_path)
    monkeypatch.chdir("/")
    assert registry.fetch("toy", "mirror") == mirror / "toy" / "toy.csv"


@pytest.mark.parametrize(
    "failure", [urllib.error.URLError("no route"), TimeoutError("timed out"), IncompleteRead(b"x")]
)
def test_no_mirror_and_no_network_names_both_cures(place, monkeypatch, failure):
    place(as_csv(TABLE), folder=None)

    def urlopen(url, timeout):
        raise failure

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    with pytest.raises(FileNotFoundError) as error:
        registry.load("toy")
    message = one_line(error)
    for part in (URL, "toy/toy.csv", "data.mirror", "params.yaml", "MOSA_DATA_MIRROR", "network"):
        assert part in message


def test_a_download_is_cached_and_not_repeated(place, monkeypatch, tmp_path):
    content = as_csv(TABLE)
    place(content, folder=None)
    calls = serve(monkeypatch, content)
    path = registry.fetch("toy")
    assert path == tmp_path / "cache" / "toy" / "toy.csv"
    assert path.read_bytes() == content
    assert registry.fetch("toy") == path
    assert calls == [(URL, registry.TIMEOUT)]
    assert [file.name for file in path.parent.iterdir()] == ["toy.csv"]  # no scratch left behind


def test_a_wrong_download_never_reaches_the_cache(place, monkeypatch, tmp_path):
    place(as_csv(TABLE), folder=None)
    serve(monkeypatch, b"<html>404</html>")
    with pytest.raises(ValueError, match=f"^{URL}: sha256") as error:
        registry.fetch("toy")
    assert "MOSA_DATA_MIRROR" in one_line(error)
    assert not (tmp_path / "cache").exists()


def test_a_download_cut_before_the_rename_leaves_no_file(place, monkeypatch, tmp_path):
    content = as_csv(TABLE)
    place(content, folder=None)
    serve(monkeypatch, content)
    target = tmp_path / "cache" / "toy" / "toy.csv"

    def killed(source, destination):
        assert destination == target and not target.exists()
        assert source.read_bytes() == content  # whole before it is given its name
        assert source.stat().st_dev == target.parent.stat().st_dev  # so the rename is atomic
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        registry.fetch("toy")
    assert list(target.parent.iterdir()) == []


# --- samples -------------------------------------------------------------------------------------

ROWS = [{"id": f"toy-{i:04d}"} for i in range(50)]


def test_a_sample_is_fixed_by_its_seed_and_keeps_the_order():
    first = registry.sample(ROWS, 10, seed=0)
    assert first == registry.sample(list(ROWS), 10, seed=0)
    assert first != registry.sample(ROWS, 10, seed=1)
    numbers = [int(row["id"][-4:]) for row in first]
    assert numbers == sorted(numbers) and len(set(numbers)) == 10


def test_a_sample_is_the_same_on_every_machine():
    keys = sorted(
        (hashlib.sha256(f"3:{row['id']}".encode()).hexdigest(), row["id"]) for row in ROWS
    )
    assert [row["id"] for row in registry.sample(ROWS, 5, seed=3)] == sorted(i for _, i in keys[:5])


def test_a_larger_sample_contains_the_smaller_one():
    for n in range(50):
        small, large = registry.sample(ROWS, n, 7), registry.sample(ROWS, n + 1, 7)
        assert len(small) == n and all(row in large for row in small)


def test_samples_draw_every_row_about_equally_often():
    drawn = Counter(row["id"] for seed in range(400) for row in registry.sample(ROWS, 10, seed))
    # 400 draws of 10 in 50: 80 each, standard deviation 8
    assert len(drawn) == 50 and all(45 < count < 115 for count in drawn.values())


@pytest.mark.parametrize("n", [51, -1])
def test_a_sample_of_a_wrong_size_names_its_key(n):
    with pytest.raises(ValueError, match=f"n_benchmark is {n}.*50 rows.*params.yaml") as error:
        registry.sample(ROWS, n, 0, key="n_benchmark")
    one_line(error)
