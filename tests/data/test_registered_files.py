import os
from dataclasses import FrozenInstanceError

import pytest

from mosa.data import registry


def test_registry_entries_are_complete_and_frozen():
    for name, dataset in registry.DATASETS.items():
        assert dataset.name == name and dataset.licence and dataset.source
        assert dataset.url.startswith("https://") and len(bytes.fromhex(dataset.sha256)) == 32
        with pytest.raises(FrozenInstanceError):
            dataset.rows = 0


real = pytest.mark.skipif(
    not os.environ.get("MOSA_DATA_MIRROR"),
    reason="the public data sets are not shipped: set MOSA_DATA_MIRROR to a folder that holds them",
)


@real
@pytest.mark.parametrize(
    ("name", "rows", "categories", "with_target"),
    [("advbench", 520, 1, True), ("harmbench", 200, 6, False), ("alpaca", 31323, 1, False),
     ("xstest", 250, 10, False)],
)
def test_real_files_load(name, rows, categories, with_target):
    loaded = registry.load(name)
    assert len(loaded) == rows
    assert len({row["id"] for row in loaded}) == rows
    assert len({row["category"] for row in loaded}) == categories
    assert all(row["behaviour"].strip() for row in loaded)
    assert all(bool(row["target"]) == with_target for row in loaded)
    assert all(type(value) is str for row in loaded for value in row.values())


@real
def test_real_xstest_keeps_no_contrast_prompt_and_harmbench_no_copyright():
    assert not any(row["category"].startswith("contrast") for row in registry.load("xstest"))
    assert "copyright" not in {row["category"] for row in registry.load("harmbench")}


@real
@pytest.mark.parametrize("name", ["advbench", "harmbench", "xstest"])
def test_real_tables_agree_with_pandas(name):
    import pandas

    dataset = registry.DATASETS[name]
    table = pandas.read_csv(registry.fetch(name), keep_default_na=False)
    if dataset.keep:
        table = table[table[dataset.keep[0]] == dataset.keep[1]]
    rows = registry.load(name)
    assert [row["behaviour"] for row in rows] == table[dataset.behaviour].tolist()
    assert [int(row["id"].split("-")[1]) for row in rows] == table.index.tolist()
