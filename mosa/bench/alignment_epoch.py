"""Alignment at LLaDA-8B's exact shape on one GPU: time, tokens a second, utilisation, peak memory.

    python -m mosa.bench.alignment_epoch [FILE]   each setting in a process of its own; FILE keeps
                                                  what is measured; what it holds is not repeated

The weights are random, for no cost depends on their values; 16 GB of them are written to a
temporary folder (TMPDIR). All else is the paper's: 3,000 pairs of 64 + 128 tokens, batches of 4,
the adapter's rank 32, bf16 weights under an fp32 adapter, as `mosa.alignment.run` has it.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import save_file
from transformers import LlamaForCausalLM, TrainerCallback

from mosa.alignment.trainer import MOSAConfig, Progress, align
from mosa.lm import loading
from mosa.lm.checkpoints import write_json
from mosa.lm.config import LLADA_FIXED, native
from mosa.pipeline.params import ROOT

# config.json of GSAI-ML/LLaDA-8B-Instruct
LLADA_8B = LLADA_FIXED | {
    "architectures": ["LLaDAModelLM"], "model_type": "llada", "d_model": 4096, "n_layers": 32,
    "mlp_hidden_size": 12288, "n_heads": 32, "n_kv_heads": 32, "vocab_size": 126464,
    "embedding_size": 126464, "max_sequence_length": 4096, "weight_tying": False,
    "rms_norm_eps": 1e-5, "rope_theta": 500000.0}
TOKENIZER = ROOT / "models/embedded-0"  # of words, which all have ids below LLaDA's
PROMPT, LENGTH = 64, 128
SAFE, HARMFUL = "therefore , i cannot answer this question .", "next , you take the"
SETTINGS = {  # setting -> pairs, and what differs from the paper's values
    "as printed": (3000, {}),
    # a layer at a time: one compilation serves all of them
    "compiled": (3000, {"torch_compile": True}),
    "batches of 16": (800, {"per_device_train_batch_size": 16}),
    "least memory": (200, {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4,
                           "activation_checkpointing": True}),
}
FSDP_ROWS = 40


def write_random(folder: Path, shape: dict = LLADA_8B) -> int:
    """Write a checkpoint of that shape as LLaDA publishes its own, in bf16, with random weights;
    returns the number of its parameters."""
    write_json(folder / "config.json", shape)
    config, name_of = native(shape, folder / "config.json")
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        tensors = LlamaForCausalLM(config).state_dict()
    torch.set_default_dtype(torch.float32)
    save_file({name_of(name): tensor for name, tensor in tensors.items()},
              folder / "model.safetensors", metadata={"format": "pt"})
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(TOKENIZER / file, folder)
    return sum(tensor.numel() for tensor in tensors.values())


def epoch(folder: Path, label: str, n: int, options: dict) -> dict:
    """Cost of one epoch of `n` pairs with MOSATrainer, in this process; the first step, which may
    compile, on its own."""
    os.environ["ACCELERATE_DYNAMO_USE_REGIONAL_COMPILATION"] = "true"  # of torch_compile
    gpu, lm, rng = torch.cuda.is_available(), loading.load(folder), random.Random(0)
    rows = [{kind: [rng.randrange(400) for _ in range(PROMPT)] for kind in ("sealed", "open")}
            | {"safe": SAFE, "harmful": HARMFUL, "affirmative": HARMFUL, "seed": i}
            for i in range(n)]
    with TemporaryDirectory() as out, watched() as seen:
        args = MOSAConfig(output_dir=out, bf16=gpu, use_cpu=not gpu, save_strategy="no",
                          length=LENGTH, disable_tqdm=True, **options)
        clock = Clock()
        state = align(lm, rows, args, [Progress(label), clock]).state
    first, *_, last = (at - clock.began for at in clock.ends)
    pairs = n * (state.global_step - 1) / state.global_step  # of the steps after the first
    rate = (last - first) / pairs
    tokens = PROMPT + LENGTH
    # a product each in the policy's forward, the reference's, and the gradients of activations
    operations = 3 * 2 * tokens * sum(p.numel() for p in lm.model.parameters())
    return {"pairs": n, "steps": state.global_step, "seconds": last, "first_step": first,
            "seconds_of_3000_pairs": 3000 * rate, "tokens_a_second": tokens / rate,
            "teraflops_a_second": operations / rate / 1e12,
            "peak_gib": torch.cuda.max_memory_reserved() / 2**30 if gpu else None,
            "allocated_gib": torch.cuda.max_memory_allocated() / 2**30 if gpu else None,
            "rewards": [state.log_history[i]["reward"] for i in (0, -2)],  # first and last step
            "options": options, **seen}


class Clock(TrainerCallback):
    """When training began, and when each of its steps ended."""

    def on_train_begin(self, *_, **__):
        self.began, self.ends = time.perf_counter(), []

    def on_step_end(self, *_, **__):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


def fsdp(folder: Path) -> dict:
    """One process of the command line under mosa/alignment/fsdp.yaml, on pairs of the world."""
    with TemporaryDirectory() as out, watched() as seen:
        start = time.perf_counter()
        command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file",
                   ROOT / "mosa/alignment/fsdp.yaml", "--num_processes", 1, "-m", "mosa.alignment",
                   "--model_name_or_path", folder, "--output_dir", out, "--source", "world",
                   "--sealed", "align", "--benign", "open", "--families", "plain",
                   "--safe", SAFE, "--rows", FSDP_ROWS, "--dtype", "bfloat16",
                   "--save_strategy", "no"]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True)
        adapter = Path(out) / "adapter/adapter_model.safetensors"
        found = {"pairs": FSDP_ROWS, "seconds": time.perf_counter() - start,
                 "status": done.returncode, "adapter": adapter.exists(),
                 "last_words": (done.stdout + done.stderr)[-2000:]}
    return found | seen


@contextmanager
def watched() -> Iterator[dict]:
    """Fills the dict with the GPU's utilisation (median) and its memory's peak, by nvidia-smi."""
    seen = {}
    if not torch.cuda.is_available():
        yield seen
        return
    query = ["nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "-lms", "500",
             "--format=csv,noheader,nounits", "--id=0"]
    with subprocess.Popen(query, stdout=subprocess.PIPE, text=True) as watcher:
        try:
            yield seen
        finally:
            watcher.terminate()
            lines = [line.split(",") for line in watcher.stdout if line.count(",") == 1]
            seen |= {"utilisation": median(float(use) / 100 for use, _ in lines),
                     "used_gib": max(float(used) for _, used in lines) / 2**10}


def main(file: Path | None) -> None:
    """All settings, one after the other; a JSON of what is done after each."""
    if not torch.cuda.is_available():
        raise SystemExit("an 8B model is trained on a GPU, and torch finds none here")
    result = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    stored = json.loads(file.read_text("utf-8")) if file and file.exists() else result
    if other := " and ".join(name for name in result if stored.get(name) != result[name]):
        raise SystemExit(f"{file} holds figures of another {other}: give another FILE")
    result = stored
    with TemporaryDirectory() as folder:
        result["parameters"] = write_random(Path(folder))
        torch.cuda.empty_cache()
        for label, (n, options) in SETTINGS.items():
            if label not in result:
                with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                    result[label] = pool.submit(epoch, Path(folder), label, n, options).result()
                    _keep(result, file)
        if "FSDP" not in result:
            result["FSDP"] = fsdp(Path(folder))
            _keep(result, file)


def _keep(result, file):
    text = json.dumps(result, indent=2)
    print(text, flush=True)
    if file:
        file.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m mosa.bench.alignment_epoch")
    parser.add_argument("file", nargs="?", type=Path, help="where the figures are kept, as JSON")
    main(parser.parse_args().file)
