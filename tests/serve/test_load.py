"""The real command under load: every answer is that of the sampler or a 4xx, nothing is kept, and
SIGTERM ends it cleanly."""

import asyncio
import json
import signal
from contextlib import ExitStack

import httpx
import psutil
import pytest
from serve.serving import PATIENCE, joined, process
from tiny_model import tiny

import mosa
from mosa.lm.loading import save

pytestmark = pytest.mark.xdist_group("load")  # one server for all of them
NOUNS = ["orb", "lantern", "amulet", "kettle"]
AT_ONCE = 200
# Requests in flight hold their canvases, and glibc keeps what was freed: 2 to 3 MB more after
# 400 requests were measured. What a denoising allocates and would leak is 0.4 MB a response.
FLAT = 60_000_000  # bytes


@pytest.fixture(scope="module")
def lm():
    return tiny()


@pytest.fixture(scope="module")
def folder(lm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    save(lm, folder)
    return folder


@pytest.fixture(scope="module")
def served(folder):
    with process(folder, "--canvas", "--length", "32", "--steps", "4") as served:
        yield served


def chat(i):
    return [{"role": "user", "content": f"how do i make a silver {NOUNS[i % 4]} ?"}]


def bodies(lm):
    """Good requests of every kind, each with what mosa.denoise() is given for it alone."""
    ids = lm.encode("the next step is to")
    pins = {"diffusion_seed_canvas": [0] * 4 + ids, "diffusion_pinned": [*range(4, 4 + len(ids))]}
    kinds = [({}, {}),
             ({"stream": True}, {}),
             ({"n": 3, "seed": 5, "temperature": 1.0}, {"temperature": 1.0, "seed": 5, "n": 3}),
             ({"seed": 2**63 - 1, "temperature": 0.5, "stream": True},
              {"temperature": 0.5, "seed": 2**63 - 1}),
             ({"steps": 16, "block_length": 8, "remasking": "random", "seed": 3},
              {"steps": 16, "block_length": 8, "remasking": "random", "seed": 3}),
             ({"vllm_xargs": pins}, {"prefill": {4: ids}}),
             ({"max_tokens": 48, "cfg_scale": 0.5, "stop": ["the"]},
              {"length": 48, "cfg_scale": 0.5, "stop": "the"})]
    return [({"messages": chat(i)} | body, {"chat": chat(i)} | how)
            for i in range(4) for body, how in kinds]


def alone(lm, chat, n=1, seed=0, length=32, prefill=None, stop=None, steps=4, **how):
    """The texts of one request by the sampler."""
    canvas = lm.canvas([chat], length, prefill)
    texts = [mosa.denoise(lm, canvas, steps, seed=seed + i, **how).texts[0] for i in range(n)]
    return [text.partition(stop)[0] if stop else text for text in texts]


ASK = {"messages": chat(0)}
BAD = {
    "no JSON": "{",
    "an unknown field": ASK | {"diffusion_steps": 3},
    "a wrong type": ASK | {"max_tokens": "32"},
    "too long a prompt": {"messages": [{"role": "user", "content": "orb " * 600}]},
    "an unknown word": {"messages": [{"role": "user", "content": "zzz"}]},
    "negative max_tokens": ASK | {"max_tokens": -1},
    "steps that do not divide": ASK | {"steps": 9, "block_length": 8},
    "a pinned slot out of range": ASK | {"vllm_xargs": {
        "diffusion_seed_canvas": [1] * 40, "diffusion_pinned": [32]}},
    "a huge body": "[" + " " * 1_100_000 + "]",
    "a temperature that is no number": ASK | {"temperature": float("nan")},
    "another model": ASK | {"model": "other"},
    "no content": {"messages": [{"role": "user"}]},
}


async def rush(url, bodies):
    """(status, texts) of every body, all asked at once; of one that is no good (status, error)."""
    async with httpx.AsyncClient(timeout=PATIENCE, limits=httpx.Limits()) as client:
        async def ask(body):
            content = body if isinstance(body, str) else json.dumps(body)
            said = await client.post(f"{url}/v1/chat/completions", content=content)
            if said.status_code != 200:
                return said.status_code, said.json()["error"]["message"]
            if '"stream": true' in content:
                return 200, joined(said.text.splitlines())
            return 200, [one["message"]["content"] for one in said.json()["choices"]]
        return await asyncio.gather(*map(ask, bodies))


async def hang_up(url, body):
    """A client that leaves after the first line of its answer, if there is one, or after a bit."""
    async with httpx.AsyncClient(timeout=httpx.Timeout(PATIENCE, read=0.3)) as client:
        try:
            async with client.stream("POST", f"{url}/v1/chat/completions", json=body) as said:
                await anext(said.aiter_lines())
        except httpx.ReadTimeout:
            pass


async def mixed(url, good):
    """AT_ONCE requests at once, some of them bad, and others that hang up."""
    bad = [*BAD.values()]
    asked = [good[i % len(good)] if i % 5 else bad[i // 5 % len(bad)] for i in range(AT_ONCE)]
    leaving = [good[0] | {"max_tokens": 128, "steps": 128, "stream": i % 2 == 0} for i in range(8)]
    found, *_ = await asyncio.gather(rush(url, asked), *(hang_up(url, one) for one in leaving))
    return list(zip(asked, found, strict=True))


def test_every_answer_of_a_rush_is_right_or_a_4xx(lm, served):
    _, url = served
    good = bodies(lm)
    expected = {json.dumps(body): alone(lm, **how) for body, how in good}
    found = asyncio.run(mixed(url, [body for body, _ in good]))
    for body, (status, said) in found:
        right = expected.get(json.dumps(body))
        assert (status == 200 and said == right) if right else 400 <= status < 500, (body, said)
    assert sum(status == 200 for _, (status, _) in found) == AT_ONCE * 4 // 5
    assert len({*map(str, expected.values())}) > 12  # and they differ


def test_bad_input_is_named(served):
    _, url = served
    found = dict(zip(BAD, asyncio.run(rush(url, BAD.values()))))
    named = {"an unknown field": "diffusion_steps", "a wrong type": "max_tokens",
             "too long a prompt": "512", "an unknown word": "'zzz'",
             "negative max_tokens": "max_tokens", "steps that do not divide": "steps=9",
             "a pinned slot out of range": "slot 32", "another model": "'tiny'",
             "a temperature that is no number": "temperature", "a huge body": "1,000,000"}
    assert {name for name, word in named.items() if word not in found[name][1]} == set()
    assert {name: status for name, (status, _) in found.items() if status != 400} == {
        "a huge body": 413, "another model": 404}


def test_memory_stays_flat(lm, served):
    server, url = served
    good = [body for body, _ in bodies(lm)]
    asyncio.run(mixed(url, good))  # warms up
    memory = psutil.Process(server.pid).memory_info
    before = memory().rss
    for _ in range(2):
        asyncio.run(mixed(url, good))
    grown = memory().rss - before
    print(f"{grown / 1e6:.1f} MB more after {2 * AT_ONCE} requests")
    assert grown < FLAT


def test_sigterm_answers_what_is_in_flight_and_ends_with_0(lm, served):  # the last one
    server, url = served
    long = {"messages": chat(1), "max_tokens": 128, "steps": 128, "temperature": 1.0, "n": 4}
    right = alone(lm, chat(1), 4, length=128, steps=128, temperature=1.0)
    with ExitStack() as stack:
        streams = [stack.enter_context(httpx.stream(
            "POST", f"{url}/v1/chat/completions", json=long | {"stream": True}, timeout=PATIENCE))
            for _ in range(2)]
        lines = [stream.iter_lines() for stream in streams]
        begun = [next(some) for some in lines]  # from here on the server answers both
        server.send_signal(signal.SIGTERM)
        assert [joined([first, *some]) for first, some in zip(begun, lines)] == [right, right]
        assert server.wait(PATIENCE) == 0 and not server.stderr.read()
