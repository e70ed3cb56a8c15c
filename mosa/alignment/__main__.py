"""Alignment from the command line, for what no notebook can do: several processes or GPUs.

    accelerate launch --config_file mosa/alignment/fsdp.yaml -m mosa.alignment \\
        --model_name_or_path FOLDER --output_dir OUT --source files --sealed advbench \\
        --benign alpaca --families plain page --safe "therefore, I cannot answer this question."

Every field of MOSAConfig is an option, or a line of a file given by --config; the defaults are the
paper's. The adapter goes to OUT/adapter. A wrong value ends in one line and exit status 2.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from trl import TrlParser

from mosa.alignment.method import Pairs, checked
from mosa.alignment.pairs import pairs
from mosa.alignment.trainer import MOSAConfig, align
from mosa.data.sets import pair_source
from mosa.lm import loading


@dataclass
class PairsConfig:
    """What is trained: a model, and the pairs that mosa.data.sets.pair_source draws for it."""

    model_name_or_path: str = field(metadata={"help": "a folder, or a name on the hub"})
    source: str = field(metadata={"help": "world, or files for the public data sets"})
    sealed: str = field(metadata={"help": "set of the requests to be refused"})
    benign: str = field(metadata={"help": "set of the requests to be answered"})
    families: list[str] = field(metadata={"help": "wraps the requests are put in"})
    safe: list[str] = field(metadata={"help": "safe sentences, without the EOS"})
    rows: int = field(default=3000, metadata={"help": "pairs, each seen once"})
    mirror: str | None = field(default=None, metadata={"help": "folder with the public files"})
    dtype: Literal["float32", "bfloat16", "auto"] = field(
        default="float32", metadata={"help": "of the base model's weights; auto: as stored"})


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, train (or go on from OUT's last checkpoint), save the adapter."""
    parser = TrlParser((PairsConfig, MOSAConfig), prog="python -m mosa.alignment",
                       usage=argparse.SUPPRESS)  # which would fill a screen before each error
    try:
        data, args = parser.parse_args_and_config(arguments)
        cfg = checked(Pairs, {name: getattr(data, name) for name in Pairs.model_fields})
        rows = pairs(pair_source(data, cfg), cfg.safe, cfg.rows, args.seed)
        dtype = None if data.dtype == "auto" else data.dtype
        lm = loading.load(data.model_name_or_path, dtype=dtype, device=args.device)
        trainer = align(lm, rows, args)
    except (ValueError, OSError, FloatingPointError) as error:
        parser.error(" ".join(str(error).split()))
    adapter = str(Path(args.output_dir) / "adapter")
    trainer.save_model(adapter)
    if args.process_index == 0:
        loading.note_base(adapter, data.model_name_or_path)


if __name__ == "__main__":
    main()
