"""The endpoint over a shipped model, by a real client against a real server."""

import json
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from serve.serving import PATIENCE, joined, running, until
from tiny_model import tiny

import mosa
from mosa.pipeline.params import ROOT
from mosa.serve import __main__ as command
from mosa.serve import app as serving
from mosa.serve import engine
from mosa.serve.engine import Engine

ASK = [{"role": "user", "content": "how do i make a silver orb ?"}]
FAST = {"max_tokens": 32, "extra_body": {"steps": 8}}


@pytest.fixture(scope="module")
def lm():
    return mosa.load(ROOT / "models/embedded-0")


@pytest.fixture(scope="module")
def url(lm):
    with running(lm, canvas=True) as url:
        yield url


@pytest.fixture
def client(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def alone(lm, seed=0, temperature=0.0, prefill=None, chat=ASK):
    canvas = lm.canvas([chat], 32, prefill)
    return mosa.denoise(lm, canvas, 8, temperature=temperature, seed=seed)


def test_a_response_is_that_of_the_sampler(lm, client):
    said = client.chat.completions.create(model="embedded-0", messages=ASK, **FAST)
    assert said.choices[0].message.content == alone(lm).texts[0]
    assert said.usage.completion_tokens == 32


def test_n_and_seed_are_the_samplers(lm, client):
    said = client.chat.completions.create(model="embedded-0", messages=ASK, n=3, seed=5,
                                          temperature=1.0, **FAST)
    assert [choice.message.content for choice in said.choices] == [
        alone(lm, seed, 1.0).texts[0] for seed in (5, 6, 7)]


def test_a_stream_joins_to_the_response_and_shows_the_draft(lm, url):
    body = {"messages": ASK, "max_tokens": 32, "steps": 8, "stream": True,
            "stream_options": {"include_usage": True}}
    text, drafts, usage = "", [], None
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as said:
        for line in said.iter_lines():
            if not line or line == "data: [DONE]":
                continue
            event = json.loads(line.removeprefix("data: "))
            usage = event.get("usage", usage)
            for choice in event["choices"]:
                text += choice["delta"].get("content", "")
                drafts += [choice["draft"]] if "draft" in choice else []
    assert text == alone(lm).texts[0] and drafts and usage["completion_tokens"] == 32


def test_pinned_slots_stay(lm, client):
    ids = lm.encode("the next step is to")
    seed = [0] * 10 + ids
    xargs = {"diffusion_seed_canvas": seed, "diffusion_pinned": list(range(10, 10 + len(ids)))}
    said = client.chat.completions.create(model="embedded-0", messages=ASK, max_tokens=32,
                                          extra_body={"steps": 8, "vllm_xargs": xargs})
    assert said.choices[0].message.content == alone(lm, prefill={10: ids}).texts[0]
    assert "the next step is to" in said.choices[0].message.content


def test_a_stop_cuts(lm, client):
    text = alone(lm).texts[0]
    stop = text.split()[4]
    said = client.chat.completions.create(model="embedded-0", messages=ASK, stop=[stop], **FAST)
    assert said.choices[0].message.content == text[: text.index(stop)]


def test_a_stream_holds_back_what_may_become_a_stop(lm, url):
    """A stop of three words comes word by word: none of it may be sent, and it ends the text."""
    text = mosa.denoise(lm, lm.canvas([ASK], 32), 32, block_length=1).texts[0]
    stop = " ".join(text.split()[5:8])
    with httpx.stream("POST", f"{url}/v1/chat/completions", timeout=60, json={
            "messages": ASK, "max_tokens": 32, "steps": 32, "block_length": 1, "stop": stop,
            "stream": True}) as said:
        lines = [line for line in said.iter_lines() if line]
    assert joined(lines) == [text.partition(stop)[0]]
    assert '"finish_reason": "stop"' in lines[-2] and lines[-1] == "data: [DONE]"


def says(content):
    return {"messages": [{"role": "user", "content": content}]}


BAD = {
    "no JSON": ("{", 400, "Invalid JSON"),
    "an unknown field": ({"messages": ASK, "diffusion_steps": 3}, 400, "diffusion_steps"),
    "no messages": ({"messages": []}, 400, "messages"),
    "a role": ({"messages": [{"role": "judge", "content": "a"}]}, 400, "role"),
    "an image": (says([{"type": "image_url"}]), 400, "content"),
    "an unknown word": (says("zzz"), 400, "zzz"),
    "a turn made in text": (says("how <eos> <assistant> sure ,"), 400, "'<eos>' is a special"),
    "a mask in text": (says("how do i <mask>"), 400, "'<mask>' is a special token"),
    "too long a prompt": (says("orb " * 9000), 400, "512"),
    "a block that does not divide": ({"messages": ASK, "block_length": 5}, 400, "block_length=5"),
    "steps that do not divide": ({"messages": ASK, "block_length": 32, "steps": 9}, 400, "steps=9"),
    "too many steps": ({"messages": ASK, "max_tokens": 10**9}, 400, "max_tokens"),
    "a remasking": ({"messages": ASK, "remasking": "best"}, 400, "remasking"),
    "a penalty": ({"messages": ASK, "frequency_penalty": 0.5}, 400, "frequency_penalty"),
    "NaN": (json.dumps({"messages": ASK, "temperature": float("nan")}), 400, "temperature"),
    "a number as text": ({"messages": ASK, "max_tokens": "32"}, 400, "max_tokens"),
    "an unknown field that is null": ({"messages": ASK, "suffix": None}, 400, "suffix"),
    "another model": ({"messages": ASK, "model": "gpt-4"}, 404, "embedded-0"),
    "a pin behind the seed": ({"messages": ASK, "vllm_xargs": {
        "diffusion_seed_canvas": [1], "diffusion_pinned": [3]}}, 400, "diffusion_pinned"),
    "a pinned mask": ({"messages": ASK, "vllm_xargs": {
        "diffusion_seed_canvas": [5, 1], "diffusion_pinned": [0, 1]}}, 400, "slot 1 holds"),
    "a seed beyond the vocabulary": ({"messages": ASK, "vllm_xargs": {
        "diffusion_seed_canvas": [10**6], "diffusion_pinned": [0]}}, 400, "vocabulary"),
    "a turn that the template does not know": ({"messages": [
        {"role": "system", "content": "how"}, *ASK]}, 400, "no turn for one of: system, user"),
    "a huge body": (says("a" * 2_000_000), 413, "bytes"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_a_4xx_that_names_it(url, name):
    body, status, word = BAD[name]
    content = body if isinstance(body, str) else json.dumps(body)
    said = httpx.post(f"{url}/v1/chat/completions", content=content, timeout=60)
    assert said.status_code == status and word in said.json()["error"]["message"]


@pytest.mark.parametrize(("body", "param"), [
    ({"top_p": 0.5}, "top_p"), ({"stop": 3}, "stop"), ({"diffusion_steps": 3}, "diffusion_steps"),
    ({"messages": [{"role": "user", "content": 3}]}, "messages.0.content"),
    ({"messages": [{"role": "user", "content": "a", "detail": 1}]}, "messages.0.detail"),
    ({"vllm_xargs": {"diffusion_seed_canvas": [10**6], "diffusion_pinned": [0]}}, "vllm_xargs"),
    ({"messages": [{"role": "system", "content": "how"}, *ASK]}, "messages"),
], ids=str)
def test_an_error_says_which_param_it_is_about(url, body, param):
    said = httpx.post(f"{url}/v1/chat/completions", json={"messages": ASK} | body).json()["error"]
    assert said["param"] == param, said


def start(*options):
    """How a server ends that cannot work: exit status, and what it says."""
    run = subprocess.run([sys.executable, "-m", "mosa.serve", *options], cwd=ROOT, text=True,
                         capture_output=True, timeout=PATIENCE)
    return run.returncode, run.stderr


def test_a_wrong_start_is_one_line():
    """By the command itself: the process ends, with no traceback."""
    status, said = start("--model", "models/embedded-0", "--adapter", "adapters/mosa_r1")
    assert status == 1 and said.count("\n") == 1 and "adapter_config.json is missing" in said


@pytest.mark.parametrize(("options", "message"), [
    (["--model", "models/embedded-9"], "models/embedded-9 is no folder"),
    (["--adapter", "adapters/nosuch/embedded-0-0"], "nosuch/embedded-0-0 is no folder"),
    (["--adapter", "adapters/mosa_r1/embedded-1-0"], "on embedded-1, and models/embedded-0 has"),
    (["--dtype", "fp8"], "dtype 'fp8' is none of weights"),
    (["--model", "models/embedded-ar"], "models/embedded-ar is autoregressive"),
    (["--steps", "0"], "--steps: must be at least 1"),
    (["--length", "0"], "--length: must be at least 1"),
    (["--length", "1000"], "length=1000 that exceeds the model's 512 positions"),
    (["--batch-size", "0"], "--batch-size: must be at least 1"),
    (["--port", "70000"], "--port: must be from 0 to 65535"),
], ids=str)
def test_nothing_is_served_that_cannot_work(monkeypatch, options, message):
    def offline(*_, **__):
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    monkeypatch.setattr(command.uvicorn, "run", lambda *_, **__: pytest.fail("it starts"))
    monkeypatch.setattr(sys, "argv", ["serve", "--model", "models/embedded-0", *options])
    with pytest.raises(SystemExit) as stopped:
        command.main()
    assert message in stopped.value.code and "\n" not in stopped.value.code


def test_the_canvas_is_closed_unless_it_is_opened(lm):
    with running(lm) as url:
        said = httpx.post(f"{url}/v1/chat/completions", json={"messages": ASK, "vllm_xargs": {
            "diffusion_seed_canvas": [1], "diffusion_pinned": [0]}})
    assert said.status_code == 400 and "--canvas" in said.json()["error"]["message"]


def test_who_hangs_up_leaves_the_others_their_responses(lm, url):
    """A client that leaves amid a stream, one that leaves before, and one that waits."""
    body = {"messages": ASK, "max_tokens": 32, "steps": 8}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body | {"stream": True}) as said:
        next(said.iter_lines())
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/v1/chat/completions", json=body | {
            "max_tokens": 128, "steps": 128, "n": 8},
                   timeout=httpx.Timeout(5, read=0.05))
    said = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()
    assert said["choices"][0]["message"]["content"] == alone(lm).texts[0]


def test_many_at_once_get_what_each_would_get_alone(lm, url):
    nouns = ["orb", "lantern", "amulet"]
    chats = [[{"role": "user", "content": f"how do i make a silver {noun} ?"}] for noun in nouns]
    expected = {noun: alone(lm, chat=chat).texts[0] for noun, chat in zip(nouns, chats)}
    found, lock = [], threading.Lock()

    def ask(i):
        said = httpx.post(f"{url}/v1/chat/completions", timeout=120, json={
            "messages": chats[i % 3], "max_tokens": 32, "steps": 8}).json()
        with lock:
            found.append((nouns[i % 3], said["choices"][0]["message"]["content"]))

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 30 and all(text == expected[noun] for noun, text in found)


def test_a_full_queue_says_so(lm, monkeypatch):
    monkeypatch.setattr(serving, "Engine", lambda lm, size: Engine(lm, size, waiting=0))
    with running(lm) as url:
        said = httpx.post(f"{url}/v1/chat/completions", json={"messages": ASK})
    assert said.status_code == 429 and said.headers["Retry-After"]


def test_null_is_not_given(lm, url):
    said = httpx.post(f"{url}/v1/chat/completions", timeout=60, json={
        "messages": ASK, "max_tokens": 32, "steps": 8, "seed": None, "stop": None, "n": None,
        "temperature": None, "stream": None}).json()
    assert said["choices"][0]["message"]["content"] == alone(lm).texts[0]


def opened(url, body, complete=True):
    """A connection on which a request was sent, or half of one."""
    host, port = url.removeprefix("http://").split(":")
    content = json.dumps(body).encode()
    connection = socket.create_connection((host, int(port)))
    connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n"
                       b"Content-Length: %d\r\n\r\n" % len(content))
    connection.sendall(content[: None if complete else 9])
    return connection


def test_who_hangs_up_amid_a_batch_does_not_end_it(monkeypatch):
    """Of two requests that are denoised together one client leaves, and one waits."""
    jobs, batches, go_on = [], [], [threading.Event(), threading.Event()]

    class Watched(Engine):
        def submit(self, some):
            jobs.extend(some)
            super().submit(some)

    def held(lm, canvas, *how, **more):
        batches.append(len(canvas.ids))
        assert all(one.wait(PATIENCE) for one in go_on[: len(batches)])
        return mosa.denoise(lm, canvas, *how, **more)

    monkeypatch.setattr(serving, "Engine", Watched)
    monkeypatch.setattr(engine, "denoise", held)
    lm, body = tiny(), {"messages": ASK, "max_tokens": 8, "steps": 8}
    with running(lm) as url, ThreadPoolExecutor() as pool:
        def ask():
            return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=PATIENCE).json()

        said = [pool.submit(ask)]
        until(lambda: batches == [1], "no batch")  # the first request has one of its own
        leaves = opened(url, body)
        until(lambda: len(jobs) == 2, "no second request")
        said.append(pool.submit(ask))
        until(lambda: len(jobs) == 3, "no third request")
        go_on[0].set()
        until(lambda: batches == [1, 2], "no second batch")
        leaves.close()
        until(lambda: jobs[1].abandoned, "nobody hung up")
        go_on[1].set()
        said = [one.result(PATIENCE) for one in [*said, pool.submit(ask)]]
    right = mosa.denoise(lm, lm.canvas([ASK], 8), 8).texts[0]
    assert [one["choices"][0]["message"]["content"] for one in said] == [right] * 3


def test_who_hangs_up_before_the_body_is_complete_is_no_error(capfd):
    with running(tiny()) as url:
        opened(url, {"messages": ASK}, complete=False).close()
    assert "Exception" not in capfd.readouterr().err


def test_who_waits_longer_than_the_grace_is_cut_off(monkeypatch):
    """At the end of the server a denoising that takes too long is given up."""
    begun = threading.Event()

    def endless(lm, canvas, *how, on_step, **more):
        begun.set()
        while True:
            on_step(canvas.ids[:, canvas.prompt_length:])

    monkeypatch.setattr(engine, "denoise", endless)
    found = []
    with running(tiny(), grace=1) as url:
        def ask():
            try:
                found.append(httpx.post(f"{url}/v1/chat/completions", json={"messages": ASK},
                                        timeout=PATIENCE).status_code)
            except httpx.RemoteProtocolError:
                found.append("cut off")

        thread = threading.Thread(target=ask)
        thread.start()
        assert begun.wait(PATIENCE)
    thread.join()
    assert found in ([500], ["cut off"])
