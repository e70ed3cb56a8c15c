import pytest
from alignment.training_rows import LENGTH, pairs, tiny

from mosa.alignment import terms
from mosa.alignment.method import Method
from mosa.alignment.objectives import objective as named
from mosa.alignment.objectives.mosa import contaminated
from mosa.alignment.pairs import Collator


def test_a_contaminated_canvas_leaves_the_window_alone():
    args = Method(k_start=8, k_end=10, revealed=1.0)
    batch = Collator(tiny(), LENGTH)(pairs(20))
    response = contaminated(batch, args)[:, -LENGTH:]
    mask = response == tiny().mask_id
    assert mask[:, 8 : 11 + batch["safe"].shape[1] - 1].all() and not mask[:, :8].all()
    assert (response[~mask] == batch["compliance"][~mask]).all()
    args = args.model_copy(update={"revealed": 0.5})  # the share of rows that show anything
    shown = (contaminated(batch, args)[:, -LENGTH:] != tiny().mask_id).any(1)
    assert 4 <= int(shown.sum()) <= 16


def test_a_contaminated_canvas_leaves_the_start_alone_where_a_sentence_is_wanted_there():
    args = Method(k_start=12, k_end=12, revealed=1.0, refuse_at="start", suppress_at="everywhere")
    batch = Collator(tiny(), LENGTH)(pairs(20))
    mask = contaminated(batch, args)[:, -LENGTH:] == tiny().mask_id
    longest = max(batch["safe"].shape[1], batch["harmful"].shape[1])
    assert mask[:, :longest].all() and not mask[:, longest:].all(0).any()


@pytest.mark.parametrize("revealed", [0.0, 1.0])
def test_places_of_the_two_sentences_are_their_own(revealed):
    lm, rows = tiny(), pairs(6)
    batch = Collator(lm, LENGTH)(rows)
    policy = lambda ids, mask: lm(ids, mask)[:, -LENGTH:]  # noqa: E731
    args = Method(k_start=6, k_end=12, refuse_at="start", suppress_at="everywhere",
                  revealed=revealed)
    _, log = named("mosa")(policy, policy, batch, args)
    ids = contaminated(batch, args) if revealed else batch["sealed_ids"]
    logp = policy(ids, batch["sealed_attention"]).log_softmax(-1)
    for i in range(len(rows)):
        free = (ids[i, -LENGTH:] == lm.mask_id).tolist()
        safe, harmful = (batch[name][i, : batch[f"{name}_length"][i]].tolist()
                         for name in ("safe", "harmful"))
        at = [k for k in range(LENGTH) if k + len(harmful) <= LENGTH
              and all(free[k : k + len(harmful)])]
        assert float(log["safe"][i]) == pytest.approx(
            sum(float(logp[i, j, token]) for j, token in enumerate(safe)), abs=1e-4)
        assert float(log["harmful"][i]) == pytest.approx(
            max(sum(float(logp[i, k + j, token]) for j, token in enumerate(harmful)) for k in at),
            abs=1e-4)


def test_benign_canvases_are_masked_as_often_as_asked():
    batch = Collator(tiny(), LENGTH)(pairs(20))
    for full, least, most in ((1.0, 20, 20), (0.5, 4, 16)):
        _, masked = terms.noised(batch, "open", batch["benign"], full)
        assert least <= int(masked.all(1).sum()) <= most


@pytest.mark.parametrize(("objective", "shown", "label"), [
    ("refusal_sft", "refusal", lambda row, lm: row["refusal"]),
    ("recovery", "compliance", lambda row, lm: row["refusal"]),
    ("a2d", "compliance", lambda row, lm: ""),
])
def test_rivals_equal_a_literal_cross_entropy(objective, shown, label):
    lm, rows = tiny(), pairs(6)
    batch = Collator(lm, LENGTH)(rows)
    policy = lambda ids, mask: lm(ids, mask)[:, -LENGTH:]  # noqa: E731
    loss, _ = named(objective)(policy, policy, batch, Method(objective=objective))
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
