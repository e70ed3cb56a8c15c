"""The log of base models that were tried: models/variants.json, shown by 02_base.ipynb.

python -m mosa.variants SEED LABEL   measure models/embedded-SEED on the validation split and append
"""

import json
import sys

from mosa import models, params, suite
from mosa.resume import done, fingerprint, write_json
from mosa.validation import validate


def log(seed: str, label: str) -> None:
    """Append one variant's label, recipe and figures.

    The recipe is the block `base-SEED` of params.yaml as it stands; the sizes are those of the
    profile `embedded`. Only the validation split is read.
    """
    folder = f"models/embedded-{seed}"
    data, sampler = params.section("embedded", "data"), params.section("embedded", "sampler")
    sets = suite.behaviours(data)
    requests = [row for name in data.validation for family in suite.families(data)
                for row in suite.wrapped(sets[name], family, data)]  # fmt: skip
    weights = fingerprint(params.ROOT / folder / "model.safetensors")
    *_, figures = validate(
        models.load(folder), requests, suite.questions(data), sampler,
        params.section("embedded", "model").n_slots, "variant", weights)  # fmt: skip
    recipe = {name: params.section(f"base-{seed}", name).model_dump() for name in params.BASE}
    path = params.ROOT / "models/variants.json"
    rows = json.loads(path.read_text("utf-8")) if path.exists() else []
    write_json(path, [*rows, {"label": label, "recipe": recipe, "figures": figures}])
    done("variant")


if __name__ == "__main__":
    log(*sys.argv[1:])
