"""python -m mosa.serve --model models/embedded-0 [--adapter adapters/mosa_r1/embedded-0-0]

An OpenAI-compatible server over a masked diffusion model: POST /v1/chat/completions, GET /v1/models
and /health. Beside OpenAI's fields a request may hold steps, block_length, remasking and cfg_scale;
with --canvas also vLLM's `vllm_xargs`, {"diffusion_seed_canvas": ids, "diffusion_pinned": slots}.
"""

import argparse
import signal
import sys

import uvicorn

from mosa.lm.loading import load
from mosa.lm.model import DiffusionLM
from mosa.serve.app import Defaults, app


def loaded(asked: argparse.Namespace) -> DiffusionLM:
    """The model that is asked for; ValueError or OSError, in one line, for what cannot serve."""
    for name in ("length", "steps", "batch_size"):
        if getattr(asked, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')}: must be at least 1")
    if not 0 <= asked.port < 2**16:
        raise ValueError("--port: must be from 0 to 65535")
    lm = load(asked.model, asked.adapter, asked.dtype)
    if lm.model.config.is_causal:
        raise ValueError(f"{asked.model} is autoregressive: give a masked diffusion model")
    lm.prompt_ids([{"role": "user", "content": ""}], asked.length, "an empty prompt")
    return lm


def main() -> None:
    """Load the model, and serve it until SIGTERM or SIGINT: what is asked until then is answered,
    for 30 seconds at most, and the exit status is 0."""
    parser = argparse.ArgumentParser("python -m mosa.serve", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a folder, or a Hub name")
    parser.add_argument("--adapter", help="a folder with a PEFT adapter of that model")
    parser.add_argument("--dtype", help="of the weights: float32 or bfloat16")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--name", help="under which clients know the model")
    parser.add_argument("--length", type=int, default=128, help="slots, without max_tokens")
    parser.add_argument("--steps", type=int, default=64, help="denoising steps, without steps")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--canvas", action="store_true", help="clients may write on the canvas")
    asked = parser.parse_args()
    try:
        lm = loaded(asked)
    except (ValueError, OSError) as error:
        sys.exit(f"{error}")
    defaults = Defaults(asked.name or asked.model.rstrip("/").rsplit("/")[-1], asked.length,
                        asked.steps, asked.canvas)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # uvicorn raises it again when it is done
    uvicorn.run(app(lm, defaults, asked.batch_size), host=asked.host, port=asked.port,
                log_level="warning", timeout_graceful_shutdown=30)


if __name__ == "__main__":
    main()
