import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_model
import torch
from safetensors.torch import load_file
from torch import nn

import mosa
from mosa import models, world
from mosa.alignment import objectives, train
from mosa.alignment.data import Collator
from mosa.alignment.objectives import OBJECTIVES
from mosa.alignment.trainer import LINEAR_MAPS, MOSAConfig, MOSATrainer, with_lora

ROOT = Path(__file__).resolve().parents[1]
LENGTH = 24


def tiny(seed=0):
    return tiny_model.tiny(seed, weight_std=0.2)


def pairs(n):
    rows = []
    for i in range(n):
        sealed = world.Item(world.ADJECTIVES[i % 10], world.SEALED["align"][i % 8])
        benign = world.Item(world.ADJECTIVES[i % 10], world.OPEN[i % 18])
        wording = world.WORDINGS["tuning"][i % 6]
        rows.append({
            "sealed": world.turns([wording], sealed), "open": world.turns([wording], benign),
            "safe": world.REFUSAL_CORES[i % 3], "harmful": world.PROCEDURAL[i % 4],
            "refusal": world.REFUSAL, "compliance": world.answer(sealed),
            "benign": world.answer(benign), "seed": i})  # fmt: skip
    return rows


def config(folder, **changes):
    return MOSAConfig(**{"output_dir": str(folder), "length": LENGTH, "k_start": 6, "k_end": 12,
                         "learning_rate": 1e-3, "per_device_train_batch_size": 4, "use_cpu": True,
                         "save_strategy": "no", "disable_tqdm": True} | changes)  # fmt: skip


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
        span = lm.tokenizer(text, add_special_tokens=False)["input_ids"] + end
        scores.append(max(
            (sum(logp[k + j, token] for j, token in enumerate(span))
             for k in range(window[0], window[1] + 1) if k + len(span) <= LENGTH),
            key=lambda score: score.item()))  # fmt: skip
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
                                 start[f"{key}.lora_B.default.weight"])  # fmt: skip
                setattr(layer, name, lora)
                parameters[f"{key}.lora_A.default.weight"] = lora.a
                parameters[f"{key}.lora_B.default.weight"] = lora.b
    optimizer = torch.optim.AdamW(parameters.values(), lr=1e-3, weight_decay=0.0)
    for step in range(5):
        losses = [plain_loss(plain.model, reference, plain, rows[i], window, 0.05)
                  for i in order[4 * step : 4 * step + 4]]  # fmt: skip
        optimizer.zero_grad()
        (sum(losses) / 4).backward()
        nn.utils.clip_grad_norm_(parameters.values(), 0.01)
        optimizer.step()
    assert any((parameters[name] - start[name]).abs().max() > 1e-3 for name in start)
    assert_same(adapter(lm), {name: p.detach() for name, p in parameters.items()}, atol=2e-5)


def test_gradient_accumulation_is_exact_with_an_uneven_last_step(tmp_path):
    whole, _ = trained(tmp_path, rows=11, per_device_train_batch_size=8)
    parts, _ = trained(tmp_path, rows=11, per_device_train_batch_size=2,
                       gradient_accumulation_steps=4)  # fmt: skip
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
    models.save(tiny(), tmp_path / "base")
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


@pytest.mark.parametrize("change", [{"beta": 1.0}, {"bound": 5.0}, {"benign_kl": 3.0},
                                    {"benign_kl": 3.0, "benign_full": 0.0},
                                    {"k_start": 0}, {"k_end": 7}, {"bounds": "whole"},
                                    {"eos": False}, {"contrast": 0.0}, {"revealed": 1.0},
                                    {"objective": "a2d"}, {"length": 30}])  # fmt: skip
def test_every_option_changes_the_result(tmp_path, change):
    base, _ = trained(tmp_path, **({"benign_kl": 3.0} if "benign_full" in change else {}))
    other, _ = trained(tmp_path, **change)
    assert any((adapter(base)[n] - adapter(other)[n]).abs().max() > 1e-6 for n in adapter(base))


def test_the_batch_of_a_row_does_not_depend_on_its_neighbours():
    rows, collate = pairs(3), Collator(tiny(), LENGTH)
    together, alone = collate(rows), collate(rows[1:2])
    for name in ("levels", "draws", "refusal", "compliance", "benign", "safe_length"):
        assert torch.equal(together[name][1:2], alone[name])
    for kind in ("sealed", "open"):
        assert torch.equal(together[f"{kind}_ids"][1, -LENGTH:], alone[f"{kind}_ids"][0, -LENGTH:])
        assert (together[f"{kind}_ids"][:, -LENGTH:] == tiny().mask_id).all()
    ends = together["safe"].gather(1, together["safe_length"][:, None] - 1)
    assert (ends == tiny().eos_id).all()  # the breaker


def test_a_contaminated_canvas_leaves_the_window_alone():
    rows, args = pairs(20), MOSAConfig(output_dir="x", use_cpu=True, k_start=8, k_end=10,
                                       length=LENGTH, revealed=1.0)  # fmt: skip
    batch = Collator(tiny(), LENGTH)(rows)
    response = objectives._contaminated(batch, args)[:, -LENGTH:]
    mask = response == tiny().mask_id
    assert mask[:, 8 : 11 + batch["safe"].shape[1] - 1].all() and not mask[:, :8].all()
    assert (response[~mask] == batch["compliance"][~mask]).all()
    args.revealed = 0.5  # the share of rows that show anything
    shown = (objectives._contaminated(batch, args)[:, -LENGTH:] != tiny().mask_id).any(1)
    assert 4 <= int(shown.sum()) <= 16


def test_benign_canvases_are_masked_as_often_as_asked():
    batch = Collator(tiny(), LENGTH)(pairs(20))
    for full, least, most in ((1.0, 20, 20), (0.5, 4, 16)):
        _, masked = objectives._noised(batch, "open", batch["benign"], full)
        assert least <= int(masked.all(1).sum()) <= most


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("function", ["_tokens_and_kl", "_kl_to_frozen"])
def test_gradients_by_hand_are_those_of_autograd(monkeypatch, function, dtype):
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(3, LENGTH, 50, generator=random).to(dtype)
    frozen = torch.randn(3, LENGTH, 50, generator=random).to(dtype)
    spans = torch.tensor([[1, 2], [3, 3], [5, 6]])  # a token twice: its gradients add up
    given = (spans,) if function == "_tokens_and_kl" else ()
    results = []
    for at_once in (2**24, 1, 3500):  # autograd, one slot at a time, two slots at a time
        monkeypatch.setattr(objectives, "AT_ONCE", at_once)
        ours = logits.clone().requires_grad_()
        found = getattr(objectives, function)(ours, frozen.clone(), *given)
        found = found if isinstance(found, tuple) else (found,)
        weights = torch.Generator().manual_seed(1)
        sum((torch.randn(f.shape, generator=weights) * f).sum() for f in found).backward()
        results.append((*found, ours.grad))
    # bf16: autograd adds its two gradients in bf16 as well, in another order
    tolerance = {} if dtype == torch.float32 else {"rtol": 0.02, "atol": 0.02}
    for plain, *by_hand in zip(*results):
        for one in by_hand:
            torch.testing.assert_close(one, plain, **tolerance)


def test_a_word_outside_the_vocabulary_is_named():
    with pytest.raises(ValueError, match=r"'i refuse'.*params\.yaml"):
        Collator(tiny(), LENGTH)([pairs(1)[0] | {"safe": "i refuse"}])


def test_missing_responses_are_named(tmp_path):
    rows = [{k: v for k, v in row.items() if k not in ("compliance", "benign")}
            for row in pairs(4)]  # fmt: skip
    for change, missing in (({"objective": "a2d"}, "compliance"), ({"revealed": 0.5}, "compliance"),
                            ({"benign_kl": 1.0, "benign_full": 0.5}, "benign")):  # fmt: skip
        with pytest.raises(ValueError, match=missing):
            MOSATrainer(with_lora(tiny()), config(tmp_path, **change), rows)
    MOSATrainer(with_lora(tiny()), config(tmp_path, benign_kl=1.0), rows).train()


def test_unknown_objective_and_missing_linear_maps_are_named(tmp_path):
    with pytest.raises(ValueError, match="unknown objective"):
        config(tmp_path, objective="rlhf")
    lm = tiny()
    del lm.model.model.layers[0].mlp.gate_proj
    with pytest.raises(ValueError, match="13 linear maps of 14"):
        with_lora(lm)


# --- rivals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("objective", "shown", "label"), [
    ("refusal_sft", "refusal", lambda row, lm: row["refusal"]),
    ("recovery", "compliance", lambda row, lm: row["refusal"]),
    ("a2d", "compliance", lambda row, lm: ""),
])  # fmt: skip
def test_rivals_equal_a_literal_cross_entropy(tmp_path, objective, shown, label):
    lm, rows = tiny(), pairs(6)
    batch = Collator(lm, LENGTH)(rows)
    policy = lambda ids, mask: lm(ids, mask)[:, -LENGTH:]  # noqa: E731
    loss, _ = OBJECTIVES[objective](policy, policy, batch, config(tmp_path, objective=objective))
    for i, row in enumerate(rows):
        whole, rate = batch["levels"][i, 0] < 0.5, 0.02 + 0.98 * batch["levels"][i, 1]
        ids, wanted = batch["sealed_ids"][i].clone(), label(row, lm).split()
        answer = row[shown].split()[:LENGTH]
        masked = [bool(whole or batch["draws"][i, k] < rate) for k in range(LENGTH)]
        for k in range(LENGTH):
            if not masked[k]:
                word = answer[k] if k < len(answer) else "<eos>"
                ids[len(ids) - LENGTH + k] = lm.tokenizer.convert_tokens_to_ids(word)
        logp = lm(ids[None], batch["sealed_attention"][i : i + 1])[0, -LENGTH:].log_softmax(-1)
        total = weight = 0.0
        for k in range(LENGTH):
            if masked[k]:
                word = wanted[k] if k < len(wanted) else "<eos>"
                w = 0.2 if wanted and k > len(wanted) else 1.0  # the EOS that ends a text is whole
                total += w * -float(logp[k, lm.tokenizer.convert_tokens_to_ids(word)])
                weight += w
        assert float(loss[i]) == pytest.approx(total / weight, abs=1e-4)


# --- the command line --------------------------------------------------------------------------


def test_two_processes_train_like_one(tmp_path):
    """The command line under torchrun, with the batch split over two processes."""
    models.save(tiny(), tmp_path / "base")
    options = ["--model_name_or_path", str(tmp_path / "base"), "--source", "world", "--sealed",
               "align", "--benign", "open", "--families", "plain", "tale", "--rows", "20",
               "--safe", world.REFUSAL,
               "--length", str(LENGTH), "--k_start", "6", "--k_end", "12", "--learning_rate",
               "1e-3", "--use_cpu", "--ddp_backend", "gloo", "--save_strategy", "steps",
               "--save_steps", "5", "--benign_kl", "1.0", "--disable_tqdm", "true"]  # fmt: skip
    adapters, logs = [], []
    for processes, rows in ((1, 4), (2, 2)):
        out = tmp_path / f"out{processes}"
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone",
                  "--nproc_per_node", str(processes), "-m", "mosa.alignment.train", *options,
                  "--output_dir", str(out), "--per_device_train_batch_size", str(rows)]  # fmt: skip
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        run = subprocess.run(launch, cwd=tmp_path, text=True, capture_output=True, env=environment)
        assert run.returncode == 0, run.stderr[-3000:]
        adapters.append(load_file(out / "adapter/adapter_model.safetensors"))
        logs.append(
            json.loads((out / "checkpoint-5/trainer_state.json").read_text())["log_history"]
        )
    assert_same(*adapters, atol=2e-5)
    for one, two in zip(*logs, strict=True):
        for name in ("loss", "reward", "kl", "benign_kl", "safe_start"):
            assert one[name] == pytest.approx(two[name], abs=1e-3), name


def test_the_command_line_takes_the_papers_values_by_default(tmp_path, monkeypatch):
    seen = {}

    def align(lm, rows, args, lora):
        seen.update(rows=rows, args=args, lora=lora)
        return SimpleNamespace(save_model=lambda folder: None)

    monkeypatch.setattr(train.models, "load", lambda *a, **k: tiny())
    monkeypatch.setattr(train, "align", align)
    train.main(["--model_name_or_path", "m", "--output_dir", str(tmp_path), "--source", "world",
                "--sealed", "align", "--benign", "open", "--families", "plain",
                "--safe", "sorry", "--use_cpu"])  # fmt: skip
    args, lora = seen["args"], seen["lora"]
    assert len(seen["rows"]) == 3000 and (lora.lora_r, lora.lora_alpha) == (32, 64)
    assert (args.learning_rate, args.max_grad_norm, args.beta) == (5e-5, 0.01, 0.05)
    assert (args.k_start, args.k_end, args.bounds, args.eos) == (20, 60, "start", True)
    assert not args.bound and not args.benign_kl and not args.gradient_checkpointing
