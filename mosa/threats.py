"""What params.yaml says of attackers fits their modules, the models and the helper."""

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import get_args

from mosa.attacks.access import Access
from mosa.attacks.campaign import ADAPTIVE, EQUAL
from mosa.attacks.guildhelper import LANGUAGES
from mosa.judges.panel import FICTIONAL, PANEL
from mosa.pipeline import params
from mosa.pipeline.params import ParamsError, Section, choice


def attack(name: str) -> ModuleType:
    """The module of an attack. Raises ParamsError, in one line, where it is not there, cannot be
    imported, or lacks what every attack has."""
    where = f"mosa/attacks/{name}.py"
    if not find_spec(f"mosa.attacks.{name}"):
        raise ParamsError(f"{where} is missing: write it, or mend the name {name!r}")
    try:
        module = import_module(f"mosa.attacks.{name}")
    except Exception as error:  # whatever a module's first lines may raise
        raise ParamsError(f"{where}: {reason(error)}") from None
    config, levels = getattr(module, "Config", None), getattr(module, "FORMS", {})
    if not (isinstance(config, type) and issubclass(config, Section)):
        raise ParamsError(f"{where}: needs a class Config, a mosa.pipeline.params.Section")
    if not callable(getattr(module, "run", None)):
        raise ParamsError(f"{where}: needs a function run")
    if wrong := [form for form, level in levels.items() if level not in get_args(Access)]:
        raise ParamsError(f"{where}: FORMS: {wrong[0]!r} has the level {levels[wrong[0]]!r}: it "
                          f"must be one of {', '.join(get_args(Access))}")
    return module


def reason(error: Exception) -> str:
    """Why an import failed, in one line: where, and what."""
    place = f"{error.filename}, line {error.lineno}: " if isinstance(error, SyntaxError) else ""
    what = " ".join(str(error.msg if place else error).split())
    return f"{place}{type(error).__name__}: {what}"


def threats(profile: str, lists: dict[str, list[str]]) -> Iterator[str]:
    """Attacked models are measured, what tables compare with is there, and every attack can run:
    what is wrong, in a line each."""
    block = params.read()[profile]
    campaign, source = block["attack"], block["data"]["source"]
    real = [name for name in lists["judges"] if name in FICTIONAL and source != "world"]
    for wrong, line in (
        (not {"original"} <= {*lists["attacked"][:1]},
         "attacked: must begin with original, on which attacks are found"),
        (lost := [name for name in lists["attacked"] if name not in lists["models"]],
         f"attacked: {lost} must be in the list models"),
        ("native" not in lists["attacks"],
         "attacks: must hold native, whose form none every other is compared with"),
        (not lists["judges"], f"judges: must hold one of {', '.join(PANEL)}"),
        (unknown := [name for name in lists["judges"] if name not in PANEL],
         f"judges: no judge {unknown and unknown[0]!r}{choice((unknown or [''])[0], PANEL)}"),
        (real, f"judges: {real} judge the policy world alone"),
        ("none" not in block["native"]["forms"][:1],
         f"{profile}.native.forms: must begin with none, which every attack is compared with"),
        (astray := [name for name in campaign["adaptive"] if name not in lists["attacked"]],
         f"{profile}.attack.adaptive: {astray} must be in the list attacked"),
        (campaign["n"] > block["data"]["n_benchmark"],
         f"{profile}.attack.n: must not exceed {profile}.data.n_benchmark"),
        (campaign["helper"] == "world" and source != "world",
         f"{profile}.attack.helper: world speaks the policy world's language alone; use endpoint"),
        (campaign["helper"] == "endpoint" and source == "world",
         f"{profile}.attack.helper: an endpoint writes English, which the policy world's models "
         "have no words for; use world"),
    ):
        if wrong:
            yield f"params.yaml: {line}"
    for name in lists["attacks"]:
        module = attack(name)
        cfg = params.section(profile, name, module.Config)
        for wrong, line in (*_forms(name, cfg, module),
                            *_budgets(name, cfg, campaign["helper"] == "world")):
            if wrong:
                yield f"params.yaml: {profile}.{name}.{line}"


def _forms(name: str, cfg: Section, module: ModuleType) -> Iterator[tuple[object, str]]:
    """The forms of an attack are its module's, and the tables' first one is run on every model."""
    forms, known = getattr(cfg, "forms", []), getattr(module, "FORMS", None)
    lost = [form for form in forms if known is not None and form not in known]
    yield lost, f"forms: {lost} are not in FORMS of mosa/attacks/{name}.py: add their access levels"
    yield (forms[:1] in ([ADAPTIVE], [EQUAL]),
           f"forms: must not begin with {ADAPTIVE} or {EQUAL}, which are run on attack.adaptive "
           "alone: the tables show the first")


def _budgets(name: str, cfg: Section, world: bool) -> Iterator[tuple[object, str]]:
    """What single attacks need; `world`: whether its helper speaks for them."""
    if name == "pal":
        yield (cfg.proxy.startswith("models/") and not (params.ROOT / cfg.proxy).is_dir(),
               f"proxy: {cfg.proxy} is missing: mend the name, or add the folder")
        yield (cfg.max_queries < 2 and {*cfg.forms} != {"text"},
               "max_queries: must be at least 2, for a step: a likelihood, and the response")
    if name == "speakeasy" and world:
        unknown = [language for language in cfg.languages if language not in LANGUAGES]
        yield unknown, (f"languages: the guild has no language {unknown and unknown[0]!r}"
                        f"{choice((unknown or [''])[0], LANGUAGES)}")
    if name == "advprefix":
        yield (cfg.kept > cfg.candidates,
               f"kept: must not exceed candidates, {cfg.candidates}, of which they are")
