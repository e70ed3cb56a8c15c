import pytest
import torch
from alignment.training_rows import LENGTH, pairs, tiny

from mosa.alignment import terms
from mosa.alignment.method import Method
from mosa.alignment.objectives import objective as named
from mosa.alignment.objectives.mosa import contaminated
from mosa.alignment.pairs import Collator


@pytest.mark.parametrize("places", [{}, {"refuse_at": "start", "suppress_at": "everywhere"}])
def test_a_contaminated_canvas_leaves_start_and_window_alone_whatever_the_places(places):
    args = Method(k_start=15, k_end=16, revealed=1.0, **places)
    batch = Collator(tiny(), LENGTH)(pairs(20))
    response = contaminated(batch, args)[:, -LENGTH:]
    mask = response == tiny().mask_id
    longest = max(batch[name].shape[1] for name in ("safe", "affirmative", "harmful"))
    free = mask.all(0)
    assert free[:longest].all() and free[15 : 16 + longest].all()
    assert longest < 15 and not free[longest:15].any() and not free[16 + longest :].any()
    assert (response[~mask] == batch["compliance"][~mask]).all()
    args = args.model_copy(update={"revealed": 0.5})  # the share of rows that show anything
    shown = (contaminated(batch, args)[:, -LENGTH:] != tiny().mask_id).any(1)
    assert 4 <= int(shown.sum()) <= 16


def test_without_a_window_there_is_room_at_the_start():
    args = Method(k_start=0, k_end=LENGTH - 1, revealed=1.0)
    long = "of course , here is how to make that for you"
    batch = Collator(tiny(), LENGTH)([row | {"affirmative": long} for row in pairs(20)])
    mask = contaminated(batch, args)[:, -LENGTH:] == tiny().mask_id
    assert mask[:, : len(long.split())].all() and not mask.all(0).all()
    lm = tiny()
    policy = lambda ids, mask: lm(ids, mask)[:, -LENGTH:]  # noqa: E731
    losses, _ = named("mosa")(policy, policy, batch, args)
    assert losses.isfinite().all()


@pytest.mark.parametrize("revealed", [0.0, 1.0])
@pytest.mark.parametrize(("suppress_at", "lowered"), [
    ("window", {"harmful": (6, 12)}), ("start", {"affirmative": (0, 0)}),
    ("everywhere", {"affirmative": (0, 0), "harmful": (0, LENGTH - 1)})])
def test_places_of_the_sentences_are_their_own(revealed, suppress_at, lowered):
    lm, rows = tiny(), pairs(6)
    batch = Collator(lm, LENGTH)(rows)
    policy = lambda ids, mask: lm(ids, mask)[:, -LENGTH:]  # noqa: E731
    args = Method(k_start=6, k_end=12, refuse_at="start", suppress_at=suppress_at,
                  revealed=revealed)
    _, log = named("mosa")(policy, policy, batch, args)
    ids = contaminated(batch, args) if revealed else batch["sealed_ids"]
    logp = policy(ids, batch["sealed_attention"]).log_softmax(-1).detach()

    def best(i, name, window):
        span = lm.encode(rows[i][name]) + [lm.eos_id] * (name == "safe")
        free = (ids[i, -LENGTH:] == lm.mask_id).tolist()
        return max(sum(float(logp[i, k + j, token]) for j, token in enumerate(span))
                   for k in range(window[0], window[1] + 1)
                   if k + len(span) <= LENGTH and all(free[k : k + len(span)]))

    for i in range(len(rows)):
        low = [best(i, name, window) for name, window in lowered.items()]
        assert float(log["safe"][i]) == pytest.approx(best(i, "safe", (0, 0)), abs=1e-4)
        assert float(log["harmful"][i]) == pytest.approx(sum(low) / len(low), abs=1e-4)


@pytest.mark.parametrize(("suppress_at", "reached"), [
    ("window", {"harmful"}), ("start", {"affirmative"}),
    ("everywhere", {"affirmative", "harmful"})])
def test_only_the_sentence_that_is_lowered_there_matters(suppress_at, reached):
    lm, rows = tiny(), pairs(4)
    policy = lambda ids, mask: lm(ids, mask)[:, -LENGTH:]  # noqa: E731
    args = Method(k_start=6, k_end=12, suppress_at=suppress_at)

    def score(**changes):
        batch = Collator(lm, LENGTH)([row | changes for row in rows])
        return named("mosa")(policy, policy, batch, args)[1]["harmful"]

    for name in ("affirmative", "harmful"):
        assert torch.equal(score(**{name: "heat the copper ."}), score()) != (name in reached)


def test_initial_alignment_lowers_how_an_answer_begins_and_by_the_letter_a_procedural_phrase():
    lm, rows = tiny(), pairs(4)
    batch = Collator(lm, LENGTH)(rows)
    policy = lambda ids, mask: lm(ids, mask)[:, -LENGTH:]  # noqa: E731
    logp = policy(batch["sealed_ids"], batch["sealed_attention"]).log_softmax(-1)
    for change, name in (({"suppress_at": "start"}, "affirmative"), ({}, "harmful")):
        _, log = named("mosa")(policy, policy, batch, Method(k_start=0, k_end=0, **change))
        for i, row in enumerate(rows):
            span = enumerate(lm.encode(row[name]))
            assert float(log["harmful"][i]) == pytest.approx(
                sum(float(logp[i, j, token]) for j, token in span), abs=1e-4)


def test_benign_canvases_are_masked_as_often_as_asked():
    batch = Collator(tiny(), LENGTH)(pairs(20))
    for full, least, most in ((1.0, 20, 20), (0.5, 4, 16)):
        _, masked, _ = terms.noised(batch, "open", batch["benign"], full)
        assert least <= int(masked.all(1).sum()) <= most


def test_the_rate_is_that_at_which_slots_are_masked():
    batch = Collator(tiny(), LENGTH)(pairs(20))
    for kind, text, first in (("sealed", "compliance", 0), ("open", "benign", 2)):
        ids, masked, rate = terms.noised(batch, kind, batch[text], 0.5)
        for i in range(20):
            whole = batch["levels"][i, first] < 0.5
            t = 1.0 if whole else 0.02 + 0.98 * float(batch["levels"][i, first + 1])
            assert float(rate[i]) == pytest.approx(t)
            assert masked[i].tolist() == [float(draw) < t for draw in batch["draws"][i]]
            assert ids[i, -LENGTH:].tolist() == [
                tiny().mask_id if hidden else int(token)
                for hidden, token in zip(masked[i], batch[text][i])]


def filled(text):
    """The words of a response's slots."""
    words = text.split()[:LENGTH]
    return words + ["<eos>"] * (LENGTH - len(words))


def revealed(batch, i, lm, answer, masked):
    """The canvas of one sealed request with an answer's words in the slots that are not masked."""
    ids = batch["sealed_ids"][i].clone()
    for k in range(LENGTH):
        if not masked[k]:
            ids[len(ids) - LENGTH + k] = lm.tokenizer.convert_tokens_to_ids(answer[k])
    return lm(ids[None], batch["sealed_attention"][i : i + 1])[0, -LENGTH:].log_softmax(-1)


@pytest.mark.parametrize("objective", ["refusal_sft", "recovery"])
def test_rivals_equal_a_literal_cross_entropy(objective):
    lm, rows = tiny(), pairs(6)
    batch = Collator(lm, LENGTH)(rows)
    policy = lambda ids, mask: lm(ids, mask)[:, -LENGTH:]  # noqa: E731
    loss, _ = named(objective)(policy, policy, batch, Method(objective=objective))
    for i, row in enumerate(rows):
        whole, rate = batch["levels"][i, 0] < 0.5, 0.02 + 0.98 * batch["levels"][i, 1]
        masked = [bool(whole or batch["draws"][i, k] < rate) for k in range(LENGTH)]
        shown = filled(row["refusal"])
        if objective == "recovery":  # pieces of a harmful answer
            swap = [bool(one < batch["levels"][i, 4]) for one in batch["swaps"][i]]
            shown = [two if other else one
                     for one, two, other in zip(shown, filled(row["compliance"]), swap)]
        logp = revealed(batch, i, lm, shown, masked)
        total, weight, wanted = 0.0, 0.0, row["refusal"].split()
        for k in range(LENGTH):
            if masked[k]:
                word = wanted[k] if k < len(wanted) else "<eos>"
                w = 0.2 if k > len(wanted) else 1.0  # the EOS that ends a text is whole
                total += w * -float(logp[k, lm.tokenizer.convert_tokens_to_ids(word)])
                weight += w
        assert float(loss[i]) == pytest.approx(total / weight, abs=1e-4)


def test_a2d_equals_its_released_loss_as_a_loop():
    """Cross-entropy of EOS in the masked slots, each over p_mask, over all slots of the answer."""
    lm, rows = tiny(), pairs(8)
    batch = Collator(lm, LENGTH)(rows)
    policy = lambda ids, mask: lm(ids, mask)[:, -LENGTH:]  # noqa: E731
    loss, log = named("a2d")(policy, policy, batch, Method(objective="a2d"))
    assert log.keys() == {"label_loss"} and (log["label_loss"] == loss).all()
    for i, row in enumerate(rows):
        p_mask = 0.02 + 0.98 * float(batch["levels"][i, 1])
        masked = [float(draw) < p_mask for draw in batch["draws"][i]]
        logp = revealed(batch, i, lm, filled(row["compliance"]), masked)
        expected = sum(-float(logp[k, lm.eos_id]) / p_mask for k in range(LENGTH) if masked[k])
        assert float(loss[i]) == pytest.approx(expected / LENGTH, rel=1e-4)


def test_a2d_keeps_benign_requests_only_where_it_is_asked_to():
    lm, other, rows = tiny(), tiny(seed=5), pairs(4)
    batch = Collator(lm, LENGTH)(rows)
    policy, reference = (lambda ids, mask, lm=lm: lm(ids, mask)[:, -LENGTH:] for lm in (lm, other))
    bare, _ = named("a2d")(policy, reference, batch, Method(objective="a2d"))
    args = Method(objective="a2d", benign_kl=3.0)
    loss, log = named("a2d")(policy, reference, batch, args)
    assert (log["benign_kl"] == terms.keep(policy, reference, batch, args)).all()
    assert (log["benign_kl"] > 0).all() and (loss == bare + 3.0 * log["benign_kl"]).all()
