"""Alignment from the command line, for what no notebook can do: several processes or GPUs.

    accelerate launch --config_file accelerate_fsdp.yaml -m mosa.alignment.train \\
        --model_name_or_path FOLDER --output_dir OUT --source files --sealed advbench \\
        --benign alpaca --families plain page --safe "therefore, I cannot answer this question."

Every option of MOSAConfig and of TRL's ModelConfig (LoRA, dtype) is an argument, or a line of a
file given by --config; the defaults are the paper's. The adapter goes to OUT/adapter.
"""

from dataclasses import dataclass, field
from pathlib import Path

from trl import ModelConfig, TrlParser

from mosa import models
from mosa.alignment.data import pairs
from mosa.alignment.trainer import LINEAR_MAPS, MOSAConfig, align


@dataclass
class PairsConfig:
    """What is trained on: the arguments of mosa.alignment.data.pairs."""

    source: str = field(metadata={"help": "world, or files for the public data sets"})
    sealed: str = field(metadata={"help": "set of the requests to be refused"})
    benign: str = field(metadata={"help": "set of the requests to be answered"})
    families: list[str] = field(metadata={"help": "wraps the requests are put in"})
    safe: list[str] = field(metadata={"help": "safe sentences, without the EOS"})
    rows: int = field(default=3000, metadata={"help": "pairs, each seen once"})
    mirror: str | None = field(default=None, metadata={"help": "folder with the public files"})


def main(arguments=None):
    """Parse, train (or go on from OUT's last checkpoint), save the adapter."""
    parser = TrlParser((PairsConfig, MOSAConfig, ModelConfig))
    parser.set_defaults(use_peft=True, lora_r=32, lora_alpha=64, lora_dropout=0.0,
                        lora_target_modules=LINEAR_MAPS)  # fmt: skip
    data, args, model = parser.parse_args_and_config(arguments)
    rows = pairs(data.source, data.sealed, data.benign, data.families, data.safe, data.rows,
                 args.seed, data.mirror)  # fmt: skip
    dtype = None if model.dtype in (None, "auto") else model.dtype
    lm = models.load(model.model_name_or_path, dtype=dtype, device=args.device)
    trainer = align(lm, rows, args, model)
    trainer.save_model(str(Path(args.output_dir) / "adapter"))


if __name__ == "__main__":
    main()
