"""python -m mosa.utility --model mosa --model_args pretrained=models/embedded-0,length=128 \\
    --tasks world --apply_chat_template --output_path results/harness

The command line of lm-evaluation-harness, which looks for no plug-ins: this one has the model
`mosa` (mosa.utility.harness) and the tasks of mosa/utility/tasks added, unless --include_path is
given. Their questions are read from results/embedded/data/questions.jsonl and $MOSA_DATA_MIRROR, or
from --metadata questions=FILE,mirror=FOLDER. A wrong value ends in one line and exit status 2.
"""

import sys


def main() -> None:
    """Run the harness's command line with the arguments of this one."""
    try:
        from lm_eval.__main__ import cli_evaluate

        from mosa.utility.harness import TASKS
    except ModuleNotFoundError as error:
        sys.exit(f"{error}: install lm-evaluation-harness, pip install lm-eval==0.4.13")
    if len(sys.argv) > 1 and not any(a.startswith("--include_path") for a in sys.argv):
        sys.argv += ["--include_path", TASKS]
    try:
        cli_evaluate()
    except (ValueError, TypeError, OSError) as error:
        print(f"python -m mosa.utility: error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
