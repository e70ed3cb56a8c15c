import pytest
import torch
from alignment.training_rows import LENGTH, pairs, tiny
from torch import nn

import mosa
from mosa.alignment.method import Method
from mosa.alignment.objectives import OBJECTIVES
from mosa.alignment.objectives import mosa as printed
from mosa.alignment.trainer import LINEAR_MAPS, MOSAConfig, MOSATrainer, align, with_lora
from mosa.lm import loading


def config(folder, **changes):
    return MOSAConfig(**{"output_dir": str(folder), "length": LENGTH, "k_start": 6, "k_end": 12,
                         "learning_rate": 1e-3, "per_device_train_batch_size": 4, "use_cpu": True,
                         "save_strategy": "no", "disable_tqdm": True} | changes)


def trained(folder, rows=20, **changes):
    lm = with_lora(tiny())
    trainer = MOSATrainer(lm, config(folder, **changes), pairs(rows))
    trainer.train()
    return lm, trainer


def adapter(lm):
    return {name: p.detach().clone() for name, p in lm.model.named_parameters() if p.requires_grad}


def assert_same(one, other, atol):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=atol, rtol=0, msg=name)


# --- the trainer beside a plain loop -----------------------------------------------------------


class PlainLoRA(nn.Module):
    def __init__(self, linear, a, b):
        super().__init__()
        self.linear, self.a, self.b = linear, nn.Parameter(a.clone()), nn.Parameter(b.clone())

    def forward(self, x):
        return self.linear(x) + 2.0 * (x @ self.a.T) @ self.b.T  # alpha / r = 64 / 32


def plain_loss(policy, reference, lm, row, window, beta):
    """One row, no batch: Algorithm 1 as loops."""
    canvas = lm.canvas([row["sealed"]], LENGTH)
    logp = policy(input_ids=canvas.ids).logits[0, -LENGTH:].log_softmax(-1)
    with torch.no_grad():
        frozen = reference(input_ids=canvas.ids).logits[0, -LENGTH:].log_softmax(-1)
    scores = []
    for text, end in ((row["safe"], [lm.eos_id]), (row["harmful"], [])):
        span = lm.encode(text) + end
        scores.append(max(
            (sum(logp[k + j, token] for j, token in enumerate(span))
             for k in range(window[0], window[1] + 1) if k + len(span) <= LENGTH),
            key=lambda score: score.item()))
    kl = sum((logp[i].exp() * (logp[i] - frozen[i])).sum() for i in range(LENGTH))
    return -(scores[0] - scores[1] - beta * kl)


@pytest.mark.parametrize("window", [(6, 12), (0, 0)])
def test_trainer_equals_a_plain_loop_after_five_steps(tmp_path, window):
    rows = pairs(20)
    k_start, k_end = window
    lm = with_lora(tiny())
    start = adapter(lm)
    trainer = MOSATrainer(lm, config(tmp_path, k_start=k_start, k_end=k_end), rows)
    order, collate = [], trainer.data_collator
    trainer.data_collator = lambda rows: order.extend(r["seed"] for r in rows) or collate(rows)
    trainer.train()
    assert trainer.state.global_step == 5

    plain, reference = tiny(), tiny().model
    for p in plain.model.parameters():
        p.requires_grad_(False)
    parameters = {}
    for layer_name, layer in list(plain.model.named_modules()):
        for name in LINEAR_MAPS:
            if hasattr(layer, name):
                key = f"base_model.model.{layer_name}.{name}"
                lora = PlainLoRA(getattr(layer, name), start[f"{key}.lora_A.default.weight"],
                                 start[f"{key}.lora_B.default.weight"])
                setattr(layer, name, lora)
                parameters[f"{key}.lora_A.default.weight"] = lora.a
                parameters[f"{key}.lora_B.default.weight"] = lora.b
    optimizer = torch.optim.AdamW(parameters.values(), lr=1e-3, weight_decay=0.0)
    for step in range(5):
        losses = [plain_loss(plain.model, reference, plain, rows[i], window, 0.05)
                  for i in order[4 * step : 4 * step + 4]]
        optimizer.zero_grad()
        (sum(losses) / 4).backward()
        nn.utils.clip_grad_norm_(parameters.values(), 0.01)
        optimizer.step()
    assert any((parameters[name] - start[name]).abs().max() > 1e-3 for name in start)
    assert_same(adapter(lm), {name: p.detach() for name, p in parameters.items()}, atol=2e-5)


def test_gradient_accumulation_is_exact_with_an_uneven_last_step(tmp_path):
    whole, _ = trained(tmp_path, rows=11, per_device_train_batch_size=8)
    parts, _ = trained(tmp_path, rows=11, per_device_train_batch_size=2,
                       gradient_accumulation_steps=4)
    assert_same(adapter(whole), adapter(parts), atol=2e-5)


def test_a_resumed_run_ends_like_an_uninterrupted_one(tmp_path):
    whole, one = trained(tmp_path / "whole")
    lm = with_lora(tiny())
    saving = {"save_strategy": "steps", "save_steps": 2}
    MOSATrainer(lm, config(tmp_path / "parts", max_steps=2, **saving), pairs(20)).train()
    lm = with_lora(tiny(), seed=5)  # whatever it starts from, the checkpoint counts
    two = MOSATrainer(lm, config(tmp_path / "parts", **saving), pairs(20))
    two.train(resume_from_checkpoint=str(tmp_path / "parts/checkpoint-2"))
    assert two.state.global_step == one.state.global_step == 5
    assert_same(adapter(whole), adapter(lm), atol=1e-6)


def test_adapter_is_saved_for_peft_and_loads_with_the_base(tmp_path):
    loading.save(tiny(), tmp_path / "base")
    lm, trainer = trained(tmp_path)
    trainer.save_model(tmp_path / "adapter")
    again = mosa.load(tmp_path / "base", adapter=tmp_path / "adapter")
    canvas = lm.canvas([pairs(1)[0]["sealed"]], LENGTH)
    with torch.no_grad():
        torch.testing.assert_close(again(canvas.ids), lm(canvas.ids), atol=1e-6, rtol=0)
        assert (again(canvas.ids) - tiny()(canvas.ids)).abs().max() > 1e-2


# --- what is logged ----------------------------------------------------------------------------


def test_every_step_logs_reward_kl_starts_and_gradient_norm(tmp_path):
    _, trainer = trained(tmp_path)
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(steps) == 5
    for entry in steps:
        assert entry["reward"] == pytest.approx(entry["safe"] - entry["harmful"], abs=1e-4)
        assert entry["loss"] == pytest.approx(-(entry["reward"] - 0.05 * entry["kl"]), abs=1e-3)
        assert 6 <= entry["safe_start"] <= 12 and entry["grad_norm"] > 0
    assert steps[0]["kl"] == pytest.approx(0, abs=1e-5)  # the reference is the adapter switched off
    assert steps[-1]["kl"] > 0


# --- objectives --------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_descends(tmp_path, objective):
    _, trainer = trained(tmp_path, rows=40, objective=objective, num_train_epochs=3)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert sum(losses[-5:]) < sum(losses[:5])


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory):
    """Adapters trained with no option changed, by the weight of the retain term."""
    folder = tmp_path_factory.mktemp("unchanged")
    return {weight: adapter(trained(folder, benign_kl=weight)[0]) for weight in (0.0, 3.0)}


@pytest.mark.parametrize("change", [{"beta": 1.0}, {"bound": 5.0}, {"benign_kl": 3.0},
                                    {"benign_kl": 3.0, "benign_full": 0.0},
                                    {"k_start": 0}, {"k_end": 7}, {"bounds": "whole"},
                                    {"eos": False}, {"contrast": 0.0}, {"revealed": 1.0},
                                    {"objective": "a2d"}, {"length": 30}, {"weight_decay": 0.5},
                                    {"suppress_at": "start"}])
def test_every_option_changes_the_result(tmp_path, unchanged, change):
    base = unchanged[3.0 if "benign_full" in change else 0.0]
    other = adapter(trained(tmp_path, **change)[0])
    assert any((base[name] - other[name]).abs().max() > 1e-6 for name in base)


# --- what is refused ---------------------------------------------------------------------------


def test_missing_responses_are_named(tmp_path):
    rows = [{k: v for k, v in row.items() if k not in ("compliance", "benign")}
            for row in pairs(4)]
    for change, missing in (({"objective": "a2d"}, "compliance"), ({"revealed": 0.5}, "compliance"),
                            ({"benign_kl": 1.0, "benign_full": 0.5}, "benign")):
        with pytest.raises(ValueError, match=missing):
            MOSATrainer(with_lora(tiny()), config(tmp_path, **change), rows).train()
    MOSATrainer(with_lora(tiny()), config(tmp_path, benign_kl=1.0), rows).train()


def test_missing_linear_maps_are_named():
    lm = tiny()
    del lm.model.model.layers[0].mlp.gate_proj
    with pytest.raises(ValueError, match="13 linear maps of 14"):
        with_lora(lm)


@pytest.mark.parametrize(("change", "message"), [
    ({"objective": "rlhf"}, "objective: must be 'a2d', 'mosa', 'recovery' or 'refusal_sft'"),
    ({"beta": float("nan")}, "beta: must be a finite number; it is nan"),
    ({"revealed": 2.0}, "revealed: must be less than or equal to 1"),
    ({"k_end": 3}, "k_end: must not lie before k_start, 6"),
    ({"bounds": "end"}, "bounds: must be 'start' or 'whole'"),
    ({"label_smoothing_factor": 0.1}, "label_smoothing_factor has no effect"),
    ({"do_eval": True}, "do_eval has no effect"),
])
def test_wrong_values_and_options_without_effect_are_one_line(tmp_path, change, message):
    with pytest.raises(ValueError) as caught:
        config(tmp_path, **change)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_method_becomes_its_arguments(tmp_path):
    method = Method(objective="a2d", batch_size=3, lora_r=8, eos=False, learning_rate=3e-4)
    args = MOSAConfig.of(method, output_dir=str(tmp_path), use_cpu=True, seed=4)
    assert args.per_device_train_batch_size == 3 and args.seed == 4
    for name, value in method.model_dump(exclude={"batch_size", "rows", "safe"}).items():
        assert getattr(args, name) == value, name


def test_an_adapter_is_not_lost_under_a_second_one(tmp_path):
    loading.save(tiny(), tmp_path / "base")
    lm = mosa.load(tmp_path / "base")
    align(lm, pairs(4), config(tmp_path / "one")).save_model(str(tmp_path / "adapter"))
    for aligned in (lm, mosa.load(tmp_path / "base", adapter=tmp_path / "adapter")):
        before = adapter(lm)
        with pytest.raises(ValueError, match=r"carries an adapter.*merge_and_unload"):
            align(aligned, pairs(4), config(tmp_path / "two"))
        assert_same(adapter(lm), before, atol=0)
    lm.model = lm.model.merge_and_unload()
    align(lm, pairs(4), config(tmp_path / "two"))


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A folder with the checkpoints of a run, and the adapter that the run ended with."""
    folder, lm = tmp_path_factory.mktemp("stored"), tiny()
    align(lm, pairs(8), config(folder, save_strategy="steps", save_steps=1))
    return folder, adapter(lm)


@pytest.mark.parametrize(("change", "named"), [
    ({"beta": 5.0}, "beta"), ({"learning_rate": 1e-4}, "learning_rate"), ({"seed": 1}, "seed"),
    ({"objective": "refusal_sft"}, "objective"), ({"k_start": 0, "k_end": 0}, "k_start, k_end"),
    ({"lora_r": 8}, "lora_r"), ({"max_steps": 9}, "max_steps"), ("rows", "rows"),
    ("model", "base model"),
])
def test_checkpoints_of_another_run_are_refused(stored, change, named):
    rows = pairs(9)[1:] if change == "rows" else pairs(8)
    lm = tiny(seed=5 if change == "model" else 0)
    with pytest.raises(ValueError, match=f"another run, with other {named}.*output_dir"):
        align(lm, rows, config(stored[0], **(change if isinstance(change, dict) else {})))
    assert not any("lora" in name for name, _ in lm.model.named_parameters())


def test_the_same_run_saved_and_logged_in_another_way_goes_on(stored):
    folder, ended = stored
    lm = tiny()
    align(lm, pairs(8), config(folder, logging_steps=2))  # nothing is left to do
    assert_same(adapter(lm), ended, atol=0)


@pytest.mark.parametrize("poisoned", ["loss", "gradient"])
def test_a_number_that_is_not_finite_stops_at_its_step(tmp_path, monkeypatch, poisoned):
    """Else the weights become NaN, every answer empty, and an empty answer counts as safe."""
    calls, original = [], printed.loss

    def objective(policy, reference, batch, args):
        loss, log = original(policy, reference, batch, args)
        calls.append(loss)
        if len(calls) != 3:
            return loss, log
        if poisoned == "loss":
            return loss * float("nan"), log
        loss.register_hook(lambda gradient: gradient * float("nan"))
        return loss, log

    monkeypatch.setattr(printed, "loss", objective)
    lm = tiny()
    with pytest.raises(FloatingPointError, match=f"step 3: the {poisoned}.* is not finite"):
        align(lm, pairs(20), config(tmp_path, save_strategy="steps", save_steps=1))
    assert all(p.isfinite().all() for p in adapter(lm).values())
    assert sorted(p.name for p in tmp_path.glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-2"]
