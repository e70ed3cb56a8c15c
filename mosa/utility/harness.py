"""The model `mosa` of lm-evaluation-harness (EleutherAI; written for 0.4.13): any DiffusionLM.

    lm = HarnessLM("models/embedded-0", adapter="adapters/mosa_r1/embedded-0-0", length=128)
    simple_evaluate(lm, tasks=["world"], task_manager=TaskManager(include_path=TASKS))["results"]

Answers are denoised; likelihoods come from one forward where one token is scored, and else from
Monte Carlo over masked states (mosa.lm.diffusion.monte_carlo_loglik). A request's random numbers
follow from its own text, so that neither batch nor order nor a resumed run changes its answer.

The sampler never suppresses an EOS, as LLaDA's EVAL.md does in some tasks (logits_eos_inf in
HumanEval, confidence_eos_eot_inf in GSM8K). Results name the settings, in `config`, and those that
a task sets for itself, in `configs`.
"""

import hashlib
import json
from collections import Counter, defaultdict
from pathlib import Path

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import CacheHook, TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from mosa.lm import causal
from mosa.lm.checkpoints import local_folder
from mosa.lm.diffusion import monte_carlo_loglik
from mosa.lm.fast import batches
from mosa.lm.loading import load
from mosa.lm.model import DiffusionLM
from mosa.lm.sampler import denoise
from mosa.pipeline.rows import fingerprint

TASKS = str(Path(__file__).with_name("tasks"))  # for the harness's include_path
SETTINGS = "length steps block_length temperature remasking cfg_scale stop_at_eos".split()
# other keys of tasks; a maximum of tokens is no `length`, which steps and blocks have to divide
HARNESS = "until do_sample max_gen_toks max_new_tokens max_tokens max_completion_tokens".split()
OF_SAMPLES = "top_p top_k num_beams".split()  # without meaning where the best token is taken


@register_model("mosa")
class HarnessLM(TemplateLM):
    """A masked diffusion model, or its autoregressive twin, as the harness asks for one.

    pretrained: a folder, a hub name, or a DiffusionLM, whose `weights` then need a name, by which
    answers are kept. adapter: folder of a PEFT adapter, merged into the weights. dtype, device: as
    mosa.load takes them; a GPU that is not there, such as the harness's default, is the CPU.
    batch_size: canvases of one forward. length to stop_at_eos: as mosa.denoise takes them; a task's
    generation_kwargs (hence --gen_kwargs) may hold the same names, which count for it, but its
    `temperature` only with `do_sample`. samples: masked states of a Monte Carlo likelihood. seed:
    of all random numbers. A causal model decodes greedily and takes `length` alone of these.
    No special token is added to a prompt: a chat template writes its own.
    """

    def __init__(self, pretrained: str | Path | DiffusionLM, adapter: str | Path | None = None,
                 weights: str | None = None, dtype: torch.dtype | str | None = None,
                 device: torch.device | str | None = None, batch_size: int | str = 16,
                 length: int = 128, steps: int = 64, block_length: int | None = None,
                 temperature: float = 0.0, remasking: str = "low_confidence",
                 cfg_scale: float = 0.0, stop_at_eos: bool = True, samples: int = 128,
                 seed: int = 0):
        super().__init__()
        if not (str(batch_size).isdecimal() and int(batch_size)):
            raise ValueError(f"batch_size must be a whole number from 1 on, not {batch_size!r}")
        if isinstance(pretrained, DiffusionLM):
            if not weights or adapter:
                raise ValueError("a DiffusionLM takes no adapter, and needs a name: `weights`")
            self.lm = pretrained
        else:
            parts = [local_folder(folder) for folder in (pretrained, adapter) if folder]
            there = torch.cuda.is_available() or "cuda" not in str(device)
            self.lm = load(parts[0], adapter, dtype, device if there else "cpu")
            if adapter:
                self.lm.model = self.lm.model.merge_and_unload()
            # the name that rows of the pipeline have
            weights = weights or f"{pretrained}-{'+'.join(map(fingerprint, parts))}"
        self.weights, self.samples, self.seed, self.form = weights, samples, seed, "completion"
        self.sampler = dict(zip(SETTINGS, (length, steps, block_length, temperature, remasking,
                                           cfg_scale, stop_at_eos), strict=True))
        self.batch_size, self.tokenizer = int(batch_size), self.lm.tokenizer
        self.max_length = self.lm.model.config.max_position_embeddings
        self.causal = bool(getattr(self.lm.model.config, "is_causal", False))

    @property
    def eot_token_id(self) -> int:
        return self.lm.eos_id

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text that has no context: BOS, or EOS where there is none."""
        bos = self.tokenizer.bos_token_id
        return self.lm.eos_id if bos is None else bos

    @property
    def tokenizer_name(self) -> str:
        """The weights' name: prompts that the harness keeps (--cache_requests) serve these only."""
        self.form = "chat"  # the harness asks for the name where it applies a chat template, only
        return self.weights

    def get_model_info(self) -> dict:
        """What a number depends on beside its task; read once, at the end of an evaluation."""
        form, self.form = self.form, "completion"
        return {"form": form, **self._settings()}

    def set_cache_hook(self, cache_hook: CacheHook) -> None:
        """Kept answers (--use_cache) are found by their prompts alone: hence their file is marked
        with weights and settings, and that of others raises ValueError."""
        mine = json.dumps(self._settings(), sort_keys=True)
        known = cache_hook.dbdict.setdefault("mosa", mine)
        if known != mine:
            raise ValueError(f"{cache_hook.dbdict.filename} keeps answers of {known}, which are "
                             f"none of {mine}: give another file with --use_cache, or delete it")
        super().set_cache_hook(cache_hook)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_) -> list[int]:
        return self.lm.encode(string)

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """White space that ends a context, as it ends chat templates, stays there if it is a token
        of its own; the harness moves it to the continuation, which then is no single token."""
        start, whole = self.tok_encode(context), self.tok_encode(context + continuation)
        if whole[: len(start)] == start:
            return start, whole[len(start) :]
        return super()._encode_pair(context, continuation)

    def apply_chat_template(self, chat_history: list[dict[str, str]],
                            add_generation_prompt: bool = True) -> str:
        return self.tokenizer.apply_chat_template(
            chat_history, tokenize=False, add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Answers, cut at their EOS and at the first stop string, which may be a special token that
        no text shows; their canvas is filled to its end all the same. Raises ValueError, naming
        task and document, for too long a prompt and for settings that do not exist."""
        prompts, untils, seeds, alike, asked = [], [], [], defaultdict(list), Counter()
        for i, request in enumerate(requests):
            context, kwargs = request.args
            where = f"{request.task_name}, document {request.doc_id}"
            settings, until, drawn = self._asked(kwargs, where)
            untils.append(until)
            prompts.append(self.lm.prompt_ids(self.tok_encode(context), settings["length"], where))
            asked[context, drawn] += drawn  # several samples may be asked of one prompt
            seeds.append(self._seed(context, asked[context, drawn]))
            alike[json.dumps(settings)].append(i)
        chunks = [(json.loads(settings), [some[j] for j in chunk])
                  for settings, some in alike.items() for chunk in batches(
                      self.lm.model, [len(prompts[i]) for i in some], self.batch_size)]
        answers = [""] * len(requests)
        for settings, rows in tqdm(chunks, desc="generate_until: batches", disable=disable_tqdm):
            filled = self._fill([prompts[i] for i in rows], [seeds[i] for i in rows], **settings)
            for i, ids in zip(rows, filled, strict=True):
                answers[i] = self._text(ids, untils[i])
                self.cache_hook.add_partial("generate_until", requests[i].args, answers[i])
        return answers

    def loglikelihood_rolling(self, requests: list[Instance],
                              disable_tqdm: bool = False) -> list[float]:
        """log p of whole texts, in nats. A text longer than the model's positions is cut into
        windows: every token is scored once, with as much context as there is."""
        found = []
        for request in tqdm(requests, desc="loglikelihood_rolling", disable=disable_tqdm):
            (text,) = request.args
            windows = get_rolling_token_windows(
                self.tok_encode(text), self.prefix_token_id, self.max_length - 1, context_len=1)
            found.append(sum(self._score(*make_disjoint_window(window), self._seed(text, n))
                             for n, window in enumerate(windows)))
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, found[-1])
        return found

    def _loglikelihood_tokens(self, requests: list[tuple], disable_tqdm: bool = False, **_) -> list:
        """(log p, whether greedy decoding writes it) of continuations that `loglikelihood` of the
        harness has split from their contexts. Of one token: a forward for each context, whatever
        the number of its tokens; the greedy answer of more tokens is denoised, one a step."""
        for (context, text), prompt, span in requests:
            self.lm.prompt_ids(prompt, len(span), f"the context that ends in {context[-40:]!r}")
            if not span:
                raise ValueError(f"{text!r} after {context[-40:]!r} has no token to score")
        answers = {}
        for i, answer in tqdm(self._scored(requests), desc="loglikelihood", total=len(requests),
                              disable=disable_tqdm):
            answers[i] = answer
            self.cache_hook.add_partial("loglikelihood", requests[i][0], answer)
        return [answers[i] for i in range(len(requests))]

    @torch.no_grad()
    def _scored(self, requests):
        single, longer = defaultdict(list), []
        for i, (_, prompt, span) in enumerate(requests):
            (longer if self.causal or len(span) > 1 else single[tuple(prompt)]).append(i)
        contexts = [*single]
        never = {self.lm.mask_id, self.lm.pad_id, *self.lm.unknown_ids} - {self.lm.eos_id}
        for chunk in batches(self.lm.model, [*map(len, contexts)], self.batch_size):
            canvas = self.lm.canvas([contexts[j] for j in chunk], 1)
            logits = self.lm.at([canvas.prompt_length], input_ids=canvas.ids,
                                attention_mask=canvas.attention_mask)[:, 0].double()  # (B, V)
            logp = logits.log_softmax(-1)
            logits[:, [*never]] = -torch.inf  # as in mosa.denoise
            for row, j in enumerate(chunk):
                for i in single[contexts[j]]:
                    (token,) = requests[i][2]
                    yield i, (float(logp[row, token]), token == int(logits[row].argmax()))
        for i in longer:
            texts, prompt, span = requests[i]
            greedy = self._fill([prompt], [0], len(span), steps=len(span))[0] == span
            yield i, (self._score(prompt, span, self._seed(*texts)), greedy)

    def _score(self, prompt, span, seed):
        """log p of a span after a prompt; of a diffusion model the Monte Carlo estimate."""
        if self.causal:
            return float(causal.loglik(self.lm, [prompt], [[]], span)[0]) * len(span)
        samples = self.samples if len(span) > 1 else 1  # there is one masked state of one token
        return float(monte_carlo_loglik(self.lm, self.lm.canvas([prompt], len(span)), [span],
                                        samples, [seed], self.batch_size)[0])

    def _fill(self, prompts, seeds, length, **settings):
        if self.causal:
            return causal.complete(self.lm, prompts, [[]] * len(prompts), length)
        canvas = self.lm.canvas(prompts, length)
        return denoise(self.lm, canvas, seed=seeds, **settings).ids.tolist()

    def _text(self, ids, until):
        stops = [self.tokenizer.get_added_vocab().get(text) for text in until]
        end = next((n for n, token in enumerate(ids) if token in stops), len(ids))
        return postprocess_generated_text(self.lm.decode([ids[:end]])[0], until, None)

    def _asked(self, kwargs, where):
        """Settings, stop strings and whether samples are drawn, of a task's generation_kwargs."""
        given = normalize_gen_kwargs(kwargs)
        drawn = given["do_sample"]
        if strange := kwargs.keys() - {*SETTINGS, *HARNESS, *([] if drawn else OF_SAMPLES)}:
            raise ValueError(f"{where}: generation_kwargs has {', '.join(sorted(strange))}, which "
                             f"the sampler does not know: it has {', '.join(SETTINGS)}")
        if drawn and self.causal:
            raise ValueError(f"{where} asks for samples, and a causal model decodes greedily")
        used = {name: given[name] for name in SETTINGS
                if name in kwargs and (drawn or name != "temperature")}
        return self.sampler | used, given["until"], drawn

    def _settings(self):
        sampler = self.sampler | {"eos": "never suppressed"} if not self.causal else {
            "length": self.sampler["length"], "decoding": "greedy, token by token"}
        return {"weights": self.weights, "dtype": str(self.lm.model.dtype), "sampler": sampler,
                "likelihood": {"samples": self.samples, "seed": self.seed}}

    def _seed(self, *parts):
        return int(hashlib.sha256(json.dumps([self.seed, *parts]).encode()).hexdigest()[:16], 16)
