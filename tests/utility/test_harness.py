"""The harness's model against denoising and likelihoods computed without it; its tasks against the
files they read and against the project's own stage."""

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_model import tiny
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

import mosa
from mosa.lm.checkpoints import random_llada
from mosa.lm.loading import load
from mosa.lm.model import DiffusionLM
from mosa.pipeline import params
from mosa.pipeline.rows import write_jsonl
from mosa.world import tasks
from mosa.world.exact import EOS, MASKED, Exact

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed: pip install lm-eval")
import lm_eval.tasks
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager

from mosa.utility import harness
from mosa.utility.__main__ import main
from mosa.utility.harness import TASKS, HarnessLM
from mosa.utility.tasks import passing

MIRROR = Path(os.environ.get("MOSA_DATA_MIRROR") or params.ROOT.parent / "shared/data")
files = pytest.mark.skipif(
    not all((MIRROR / name).exists() for name in ("gsm8k", "mmlu", "humaneval")),
    reason="GSM8K, MMLU and HumanEval are not shipped: set MOSA_DATA_MIRROR to their folder")
SHORT = {"length": 8, "steps": 4, "block_length": 4}
QUESTIONS = ["where does the urn come from : castle , forest , valley , meadow ?",
             "what is two plus three ?", "write a program that adds two then adds three ."]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Without the harness's report of the machine, 3 s for each evaluation."""
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)


@pytest.fixture(scope="module")
def lm():
    return tiny()


def harnessed(lm, **options):
    return HarnessLM(lm, **{**SHORT, "weights": "tiny", "samples": 8, **options})


def asked(kind, *arguments, document=0):
    return Instance(kind, {}, arguments, 0, ("task", document, 1))


def generations(contexts, **kwargs):
    return [asked("generate_until", context, {"until": [], **kwargs}, document=i)
            for i, context in enumerate(contexts)]


def scores(*pairs):
    return [asked("loglikelihood", *pair, document=i) for i, pair in enumerate(pairs)]


def chat(lm, question):
    return lm.tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True)


# Generation


def test_answers_are_those_of_denoise_cut_at_the_first_stop_string(lm):
    context = chat(lm, QUESTIONS[0])
    canvas = lm.canvas([QUESTIONS[0]], 8)
    (text,) = mosa.denoise(lm, canvas, steps=4, block_length=4).texts
    words = text.split()
    assert len(words) > 4
    mine = harnessed(lm)
    assert mine.generate_until(generations([context])) == [text]
    stops = [f" {words[4]}", f" {words[2]}"]
    cut = min((text.split(stop)[0] for stop in stops), key=len)
    assert mine.generate_until(generations([context], until=stops)) == [cut]
    assert mine.generate_until(generations([context], until=stops[0])) == [text.split(stops[0])[0]]


def test_a_task_s_settings_count_for_it(lm):
    context = chat(lm, QUESTIONS[1])
    (text,) = mosa.denoise(lm, lm.canvas([QUESTIONS[1]], 6), steps=3).texts
    requests = generations([context], length=6, steps=3, block_length=6, max_gen_toks=1024)
    assert harnessed(lm).generate_until(requests) == [text]
    # a task's temperature is one of samples only, as in the harness
    cold = generations([context], temperature=0.0, do_sample=False)
    warm = harnessed(lm, temperature=1.5)
    assert warm.generate_until(cold) == warm.generate_until(generations([context]))
    assert warm.generate_until(cold) != harnessed(lm).generate_until(cold)


def test_a_stop_string_that_is_a_special_token_stops(lm):
    ids = [*lm.encode("castle forest"), lm.tokenizer.convert_tokens_to_ids("<user>"),
           *lm.encode("valley")]
    assert harnessed(lm)._text(ids, ["<user>", "meadow"]) == "castle forest"
    assert harnessed(lm)._text(ids, ["meadow"]) == "castle forest valley"


@pytest.mark.parametrize("drawn", [{}, {"do_sample": True, "temperature": 1.5}])
@settings(max_examples=8, deadline=None)
@given(st.permutations(QUESTIONS), st.integers(1, 4))
def test_neither_batch_nor_order_changes_an_answer(lm, drawn, order, size):
    alone = {question: harnessed(lm).generate_until(generations([chat(lm, question)], **drawn))
             for question in QUESTIONS}
    requests = generations([chat(lm, question) for question in order], **drawn)
    found = harnessed(lm, batch_size=size).generate_until(requests)
    assert found == [alone[question][0] for question in order]


def test_samples_of_one_prompt_differ_and_their_seed_fixes_them(lm):
    requests = generations([chat(lm, QUESTIONS[0])] * 3, do_sample=True, temperature=1.0)
    found = harnessed(lm).generate_until(requests)
    assert len(set(found)) == 3
    assert found == harnessed(lm).generate_until(requests)
    assert found != harnessed(lm, seed=1).generate_until(requests)


@pytest.mark.parametrize("requests, error", [
    (generations(["what is two plus three ?"], step=3), "document 0: generation_kwargs has step,"),
    (generations(["what is two ?"], do_sample=True, temperature=1.0, top_p=0.9), "has top_p"),
    (generations(["what is two ?", "what is two plus three ? " * 100]),
     "task, document 1 has 600 tokens; with length=8"),
    (generations(["what is gugelhupf ?"]), "'gugelhupf'"),
])
def test_what_cannot_be_asked_is_one_error_before_anything_is_generated(
        lm, monkeypatch, requests, error):
    monkeypatch.setattr(harness, "denoise", None)
    with pytest.raises(ValueError, match=error) as raised:
        harnessed(lm).generate_until(requests)
    assert "\n" not in str(raised.value)


# Likelihoods


def test_one_token_is_scored_in_one_forward_and_as_computed_directly(lm, monkeypatch):
    context, never = chat(lm, QUESTIONS[0]), {lm.mask_id, lm.pad_id, *lm.unknown_ids}
    canvas = lm.canvas([QUESTIONS[0]], 1)
    logits = lm(canvas.ids, canvas.attention_mask)[0, -1].detach().double()
    best = max({*range(len(logits))} - never, key=lambda token: logits[token])
    words = ["castle", "forest", "valley", lm.tokenizer.convert_ids_to_tokens(best)]
    forwards = []
    hook = lm.model.register_forward_hook(lambda *_: forwards.append(1))
    found = harnessed(lm).loglikelihood(scores(*((context, f" {word}") for word in words)))
    hook.remove()
    assert len(forwards) == 1
    for word, (value, greedy) in zip(words, found):
        (token,) = lm.encode(word)
        assert value == pytest.approx(float(logits.log_softmax(-1)[token]), abs=1e-5)
        assert greedy == (token == best)
    padded_with_eos = replace(lm, eos_id=best, pad_id=best)
    assert harnessed(padded_with_eos).loglikelihood(scores((context, f" {words[3]}")))[0][1]


def test_white_space_moves_to_the_continuation_only_where_a_token_would_be_torn():
    tokenizer = Tokenizer(models.WordLevel({"a": 0, " b": 1, "b": 2, " ": 3, "<mask>": 4, EOS: 5}))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?b|a|\s"), "isolated")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS, mask_token="<mask>")
    mine = harnessed(DiffusionLM(tiny().model, fast, 4, 5, 5))
    assert mine._encode_pair("a ", "b") == ([0], [1])  # as the harness does
    assert mine._encode_pair("a ", "a") == ([0, 3], [0])


def test_likelihoods_do_not_depend_on_batch_and_order(lm):
    pairs = [(chat(lm, question), f" {text}") for question in QUESTIONS
             for text in ("castle", "two plus three", "the valley .", "forest")]
    base = harnessed(lm).loglikelihood(scores(*pairs))
    assert len({value for value, _ in base}) == len(pairs)
    order = random.Random(0).sample(range(len(pairs)), len(pairs))
    for size in (1, 5):
        found = harnessed(lm, batch_size=size).loglikelihood(scores(*(pairs[i] for i in order)))
        for i, (value, greedy) in zip(order, found):
            assert value == pytest.approx(base[i][0], abs=1e-4) and greedy == base[i][1]


def test_two_tokens_converge_to_the_mean_over_both_orders():
    lm = tiny(weight_std=1.0)
    context, ids = chat(lm, QUESTIONS[1]), lm.encode("the valley")
    ways = []
    for order in permutations(range(2)):
        canvas, way = lm.canvas([QUESTIONS[1]], 2), 0.0
        for slot in order:
            logits = lm(canvas.ids, canvas.attention_mask)[0, slot - 2].detach().double()
            way += float(logits.log_softmax(-1)[ids[slot]])
            canvas.ids[0, slot - 2] = ids[slot]
        ways.append(way)
    requests = scores((context, " the valley"))
    few, many = (harnessed(lm, samples=n).loglikelihood(requests)[0][0] for n in (8, 600))
    assert abs(ways[0] - ways[1]) > 2
    assert many == pytest.approx(np.mean(ways), abs=0.3)
    assert few == harnessed(lm).loglikelihood(requests)[0][0]
    assert few != harnessed(lm, seed=1).loglikelihood(requests)[0][0]


def test_the_greedy_answer_of_more_tokens_is_denoised_one_a_step(lm):
    context, canvas = chat(lm, QUESTIONS[1]), lm.canvas([QUESTIONS[1]], 3)
    slow, quick = (" ".join(lm.tokenizer.convert_ids_to_tokens(
        mosa.denoise(lm, canvas, steps, stop_at_eos=False).ids[0])) for steps in (3, 1))
    assert slow != quick
    found = harnessed(lm).loglikelihood(scores((context, f" {slow}"), (context, f" {quick}")))
    assert [greedy for _, greedy in found] == [True, False]


class ExactModule(torch.nn.Module):
    """The exact predictor behind a prompt of one token, as a transformers module would answer."""

    def __init__(self, exact):
        super().__init__()
        self.exact, self.anchor = exact, torch.nn.Parameter(torch.zeros(1))
        self.config = SimpleNamespace(vocab_size=len(exact.vocabulary) + 1, is_causal=False,
                                      max_position_embeddings=exact.length + 1)
        self.dtype = torch.float64

    def forward(self, input_ids, attention_mask=None):
        shown = input_ids[:, -self.exact.length:].numpy()
        p = self.exact.posterior(np.where(shown == len(self.exact.vocabulary), MASKED, shown))
        logits = torch.full((*input_ids.shape, self.config.vocab_size), -torch.inf).double()
        logits[:, -self.exact.length:, :-1] = torch.tensor(p).log()
        return SimpleNamespace(logits=logits)


@pytest.fixture(scope="module")
def exact():
    """A grammar of three words at least, of which three are seen: no response ends before."""
    return Exact([(0.6, [[(1.0, "a b"), (2.0, "c c")], [(1.0, "c"), (1.0, "d {n}")], [(1.0, "f")]]),
                  (0.4, [[(1.0, "c")], [(1.0, "d f"), (3.0, "e e")], [(1.0, "a b a b")]])],
                 3, {"n": "g"})


@pytest.fixture(scope="module")
def exact_lm(exact):
    words = {word: i for i, word in enumerate([*exact.vocabulary, "<mask>"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=EOS))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS, mask_token="<mask>")
    return DiffusionLM(ExactModule(exact), fast, words["<mask>"], 0, 0)


@pytest.mark.parametrize("text", ["c c d", "a b c", "c e e"])
def test_on_the_exact_predictor_the_likelihood_converges_to_the_true_one(exact, exact_lm, text):
    true = exact.log_probability(exact.numbers(text))
    assert np.isfinite(true)
    mine = HarnessLM(exact_lm, weights="exact", samples=3000, batch_size=3000)
    ((value, _),) = mine.loglikelihood(scores(("a", f" {text}")))
    (whole,) = mine.loglikelihood_rolling([asked("loglikelihood_rolling", text)])
    few = HarnessLM(exact_lm, weights="exact", samples=60, batch_size=60)
    some = [few.loglikelihood(scores(("a", f" {text}")))[0][0] for few.seed in range(20)]
    spread = np.std(some) * (60 / 3000) ** 0.5  # of the mean of 3000
    assert value == pytest.approx(true, abs=4 * spread + 1e-9)
    assert whole == pytest.approx(true, abs=4 * spread + 1e-9)


def test_a_long_text_is_scored_in_windows_that_hold_each_token_once(lm, monkeypatch):
    seen = []

    def spy(lm, canvas, responses, n_samples, seed, batch):
        seen.append((canvas.ids[0, : canvas.prompt_length].tolist(), responses[0], *seed))
        return torch.tensor([-1.0])

    monkeypatch.setattr(harness, "monte_carlo_loglik", spy)
    text = " ".join(["two plus three is five ."] * 200)
    request = asked("loglikelihood_rolling", text)
    assert harnessed(lm).loglikelihood_rolling([request]) == [-len(seen)]
    ids, limit = lm.encode(text), lm.model.config.max_position_embeddings
    assert len(seen) > 1 and sum((span for _, span, _ in seen), []) == ids
    assert all(len(prompt) + len(span) == limit for prompt, span, _ in seen)
    assert seen[0][0] == [lm.eos_id] and seen[1][0] != [lm.eos_id]
    harnessed(lm).loglikelihood(scores((text[:9], " two plus"), (text[:9], " five .")))
    assert len({seed for *_, seed in seen}) == len(seen)  # each has random numbers of its own


@pytest.mark.parametrize("pair, error", [
    (("what is two plus three ? " * 100, " two"), "context that ends in .* has 600 tokens"),
    (("what is two ?", " "), "no token to score"),
])
def test_what_cannot_be_scored_is_one_error(lm, pair, error):
    with pytest.raises(ValueError, match=error):
        harnessed(lm).loglikelihood(scores(pair))


def test_an_autoregressive_twin_agrees_with_the_harness_s_own_model():
    from lm_eval.models.huggingface import HFLM

    twin = tiny(causal=True)
    theirs = HFLM(twin.model, tokenizer=twin.tokenizer, backend="causal", device="cpu",
                  max_length=512)
    mine = HarnessLM(twin, weights="twin", length=6)
    contexts = [chat(twin, question) for question in QUESTIONS]
    pairs = [(context, f" {text}") for context in contexts
             for text in ("castle", "two plus three", "the valley .")]
    for (value, greedy), (wanted, first) in zip(mine.loglikelihood(scores(*pairs)),
                                                theirs.loglikelihood(scores(*pairs))):
        assert value == pytest.approx(wanted, abs=1e-3) and greedy == first
    requests = generations(contexts, max_gen_toks=6, do_sample=False)
    assert mine.generate_until(requests) == [
        text.strip() for text in theirs.generate_until(requests)]
    with pytest.raises(ValueError, match="causal model decodes greedily"):
        mine.generate_until(generations(contexts, do_sample=True, temperature=1.0))


# Whole evaluations


def manager(questions, *folders):
    """The project's tasks and folders of the harness's; all of these take 15 s to read."""
    folders = [Path(lm_eval.tasks.__file__).parent / folder for folder in folders]
    return TaskManager(include_path=[*folders, TASKS], include_defaults=False,
                       metadata={"questions": str(questions), "mirror": str(MIRROR)})


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    rows = [row for task in tasks.TASKS for row in tasks.questions(task, 3)]
    return write_jsonl(tmp_path_factory.mktemp("world") / "questions.jsonl", rows)


def evaluated(model, questions, tasks=("world_arithmetic",), **options):
    return simple_evaluate(model, tasks=[*tasks], task_manager=manager(questions),
                           bootstrap_iters=0, **options)


def test_the_world_s_tasks_have_the_answers_and_scores_of_the_stage(questions):
    adapter = "adapters/mosa_r1/embedded-0-0"
    model = HarnessLM("models/embedded-0", adapter=adapter, batch_size=4)
    found = evaluated(model, questions, ["world"], apply_chat_template=True, limit=2)
    assert type(model.lm.model) is LlamaForCausalLM  # the adapter is merged
    lm = load(params.ROOT / "models/embedded-0", params.ROOT / adapter)
    lm.model = lm.model.merge_and_unload()
    for task in tasks.TASKS:
        rows = tasks.questions(task, 3)[:2]
        texts = mosa.denoise(lm, lm.canvas([row["question"] for row in rows], 24), 24).texts
        samples = found["samples"][f"world_{task}"]
        assert [sample["resps"] for sample in samples] == [[[text]] for text in texts]
        right = [tasks.correct(task, text, row["answer"]) for text, row in zip(texts, rows)]
        assert [sample["correct"] for sample in samples] == right
        assert found["results"][f"world_{task}"]["correct,none"] == np.mean(right)
        assert found["configs"][f"world_{task}"]["generation_kwargs"]["length"] == 24
    assert found["config"]["weights"].startswith("models/embedded-0-")
    assert found["config"]["sampler"] == {
        "length": 128, "steps": 64, "block_length": None, "temperature": 0.0, "cfg_scale": 0.0,
        "remasking": "low_confidence", "stop_at_eos": True, "eos": "never suppressed"}


def test_prompts_are_in_chat_or_in_completion_form_and_results_say_so(lm, questions):
    model, first = harnessed(lm), tasks.questions("arithmetic", 3)[0]["question"]
    for _ in range(2):  # one after the other
        for form, prompt in (("chat", chat(lm, first)), ("completion", first)):
            found = evaluated(model, questions, limit=1, apply_chat_template=form == "chat")
            ((context, _),) = found["samples"]["world_arithmetic"][0]["arguments"]
            assert context == prompt and found["config"]["form"] == form
    assert model.tok_encode(chat(lm, first)) == lm.prompt_ids(first)
    assert model.apply_chat_template(
        [{"role": "user", "content": "what is two ?"}, {"role": "assistant", "content": "two is"}],
        add_generation_prompt=False).endswith("<assistant> two is")


KILLED = """
import os, signal, sys, time
from pathlib import Path
from test_harness import evaluated, harness, harnessed, tiny
original, calls = harness.denoise, []
def denoise(*arguments, **options):
    if calls:
        time.sleep(1)  # a thread of its own writes the answers
        os.kill(os.getpid(), signal.SIGKILL)
    calls.append(1)
    return original(*arguments, **options)
harness.denoise = denoise
evaluated(harnessed(tiny(), batch_size=1), Path(sys.argv[1]), use_cache=sys.argv[2])
"""


def python(*arguments):
    folders = [params.ROOT, params.ROOT / "tests", Path(__file__).parent]
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True,
                          cwd=params.ROOT,
                          env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))})


def test_finished_answers_survive_a_kill_and_serve_no_other_settings(
        lm, questions, tmp_path, monkeypatch):
    cache, calls, denoise = str(tmp_path / "answers"), [], harness.denoise
    killed = python("-c", KILLED, questions, cache)
    assert killed.returncode == -9, killed.stderr
    monkeypatch.setattr(harness, "denoise", lambda *arguments, **options: (
        calls.append(1), denoise(*arguments, **options))[1])
    resumed, repeated, whole = (
        evaluated(harnessed(lm, batch_size=1), questions, use_cache=used)["samples"]
        for used in (cache, cache, None))
    assert len(calls) == 2 + 0 + 3
    assert resumed == repeated == whole
    with pytest.raises(ValueError, match=r"keeps answers of .*: give another file"):
        evaluated(harnessed(lm, steps=8), questions, use_cache=cache)


@pytest.mark.parametrize("options, error", [
    ({"batch_size": "auto"}, "batch_size"), ({"weights": None}, "needs a name"),
    ({"adapter": "adapters/mosa_r1/embedded-0-0"}, "takes no adapter"),
])
def test_wrong_options(lm, options, error):
    with pytest.raises(ValueError, match=error):
        harnessed(lm, **options)


@pytest.mark.parametrize("arguments, status, shown", [
    (["--help"], 0, "--model_args"),
    (["--model", "mosa", "--tasks", "world", "--log_samples"], 2,
     "python -m mosa.utility: error: Specify --output_path"),
])
def test_help_and_errors_of_the_command_line(monkeypatch, capsys, arguments, status, shown):
    monkeypatch.setattr(sys, "argv", ["mosa.utility", *arguments])
    monkeypatch.setattr("lm_eval.__main__.setup_logging", lambda: None)  # for the whole process
    with pytest.raises(SystemExit) as stopped:
        main()
    out, err = capsys.readouterr()
    assert stopped.value.code == status and shown in (err.split("\n")[-2] if status else out)


def test_the_command_line_writes_results_with_the_settings_in_them(questions, tmp_path):
    ran = python("-m", "mosa.utility", "--model", "mosa", "--tasks", "world_arithmetic",
                 "--model_args", "pretrained=models/embedded-0,length=32,steps=16", "--limit", 2,
                 "--apply_chat_template", "--batch_size", 2, "--output_path", tmp_path,
                 "--metadata", f"questions={questions}")
    assert ran.returncode == 0, ran.stderr
    (file,) = tmp_path.glob("*/results_*.json")
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["config"]["sampler"]["steps"] == 16 and found["config"]["form"] == "chat"
    assert found["config"]["sampler"]["eos"] == "never suppressed"
    assert found["configs"]["world_arithmetic"]["generation_kwargs"]["steps"] == 24
    assert found["results"]["world_arithmetic"]["sample_len"] == 2
    assert "|world_arithmetic|" in ran.stdout.replace(" ", "")


# The public tasks


@pytest.fixture(scope="module")
def llada(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llada")
    random_llada(folder)
    return HarnessLM(folder, batch_size=4, samples=2, **SHORT)


def public(model, name, *folders, **options):
    return simple_evaluate(model, tasks=[name], task_manager=manager("none", *folders),
                           bootstrap_iters=0, **options)


@files
def test_gsm8k_runs_on_the_real_file_with_the_harness_s_prompt(llada):
    found = public(llada, "gsm8k_local", "gsm8k", limit=2)
    one, two = found["samples"]["gsm8k"][:2]
    rows = [json.loads(line) for line in (MIRROR / "gsm8k/test.jsonl").open(encoding="utf-8")]
    assert one["doc"] == rows[0] and two["doc"] == rows[1]
    context, kwargs = one["arguments"][0]
    assert context.endswith(f"\n\nQuestion: {rows[0]['question']}\nAnswer:")
    assert context.count("Question: ") == 6 and kwargs["until"][0] == "Question:"
    assert found["results"]["gsm8k"]["exact_match,strict-match"] == 0
    assert found["n-samples"]["gsm8k"]["original"] == 1319


@files
@pytest.mark.parametrize("form", ["chat", "completion"])
def test_mmlu_runs_on_the_real_files_and_its_likelihoods_are_direct_ones(llada, form, tmp_path):
    group = (Path(TASKS) / "mmlu.yaml").read_text(encoding="utf-8")
    group = group.replace("mmlu_local", "some").replace("[mmlu]", "[mmlu_anatomy, mmlu_virology]")
    (tmp_path / "some.yaml").write_text(group, encoding="utf-8")
    found = public(llada, "some", "mmlu", tmp_path, limit=2, apply_chat_template=form == "chat")
    for subject in ("anatomy", "virology"):
        for sample in found["samples"][f"mmlu_{subject}"]:
            for (context, continuation), ((value, greedy),) in zip(
                    sample["arguments"], sample["resps"], strict=True):
                ids = llada.lm.encode(continuation)
                if form == "completion":  # one byte is " ", and one the letter
                    assert len(ids) == 2 and value < 0
                    continue
                assert len(ids) == 1 and context.endswith("\n\n")  # as the chat template ends
                canvas = llada.lm.canvas([llada.lm.encode(context)], 1)
                logits = llada.lm(canvas.ids, canvas.attention_mask)[0, -1].detach().double()
                assert value == pytest.approx(float(logits.log_softmax(-1)[ids[0]]), abs=1e-4)
                assert not greedy or int(logits.argmax()) in (ids[0], llada.lm.mask_id)
    assert "acc,none" in found["results"]["mmlu_anatomy"]


@files
def test_the_group_of_mmlu_has_all_subjects_from_the_files():
    found = manager("none", "mmlu").load(["mmlu_local"])["tasks"]
    assert len(found) == 57
    assert sum(len(task.eval_docs) for task in found.values()) == 14079
    assert all(len(task.dataset["dev"]) == 5 for task in found.values())


@files
@pytest.mark.parametrize("name", ["humaneval", "humaneval_instruct"])
def test_humaneval_is_generated_as_the_harness_asks_and_not_run(llada, monkeypatch, name):
    from lm_eval.tasks._yaml_loader import load_yaml

    chatty = name == "humaneval_instruct"
    found = public(llada, f"{name}_local", limit=2, predict_only=True, apply_chat_template=chatty)
    (sample, _) = found["samples"][f"{name}_local"]
    context, kwargs = sample["arguments"][0]
    own = load_yaml(Path(lm_eval.tasks.__file__).with_name("humaneval") / f"{name}.yaml",
                    resolve_func=False)
    assert kwargs == own["generation_kwargs"]
    assert context == sample["doc"]["prompt"] or (chatty and "Here is the completed" in context)
    assert sample["filtered_resps"] == sample["resps"][0]
    assert sample["target"].endswith(f"check({sample['doc']['entry_point']})")
    monkeypatch.setattr(harness, "denoise", None)  # refused before anything is generated
    with pytest.raises(ValueError, match=r"no sandbox.*--predict_only"):
        public(llada, f"{name}_local", limit=2)


@files
def test_humaneval_s_score_is_the_share_that_passes(llada, monkeypatch):
    ran, told = [], iter([True, False])
    monkeypatch.setattr(passing, "checker", lambda: lambda problem, completion: (
        ran.append((problem["task_id"], completion)), next(told))[1])
    found = public(llada, "humaneval_local", limit=2)
    assert found["results"]["humaneval_local"]["pass@1,create_test"] == 0.5
    assert ran == [(sample["doc"]["task_id"], sample["resps"][0][0])
                   for sample in found["samples"]["humaneval_local"]]
    assert passing.fenced([["    return 1\n```\nThis is"]], [{}]) == [["    return 1\n"]]


def test_a_missing_or_damaged_file_is_one_error(tmp_path, monkeypatch):
    from mosa.utility.tasks import gsm8k, humaneval, mmlu, world

    monkeypatch.delenv("MOSA_DATA_MIRROR", raising=False)
    with pytest.raises(FileNotFoundError, match=r"gsm8k/train\.jsonl is missing: name the f"):
        gsm8k()
    (tmp_path / "humaneval").mkdir()
    (tmp_path / "humaneval/HumanEval.jsonl.gz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"HumanEval\.jsonl\.gz is damaged"):
        humaneval(mirror=str(tmp_path))
    (tmp_path / "mmlu/dev").mkdir(parents=True)
    (tmp_path / "mmlu/dev/anatomy_dev.csv").write_text("question,a,b,c,d,E\n")
    with pytest.raises(ValueError, match=r"anatomy_dev\.csv: a row is no question"):
        mmlu("/somewhere/mmlu_anatomy.yaml", mirror=str(tmp_path))
    with pytest.raises(ValueError, match="no questions of the task 'choice'"):
        world("choice", write_jsonl(tmp_path / "rows.jsonl", tasks.questions("programs", 1)))
