"""Who can reach which part of a response, and when? Position and denoising step as two axes.

The paper says that a defender reaches the middle of a response and an attacker does not; later
work finds early denoising steps decisive (DiffuGuard, arXiv 2509.24296; first-step contamination,
arXiv 2510.00565). Position and step are different axes: here a draft is taken at any step of a
decoding, tokens are planted at any slot of it, and the decoding goes on. Everything planted is an
attack on the response canvas (access A2), and judges read only what the model itself wrote.
"""

from dataclasses import dataclass

import torch

from mosa import models, params, world
from mosa.diffusion import response_logits
from mosa.params import need
from mosa.resume import fingerprint


@dataclass(frozen=True)
class Variant:
    """One of the models that are compared: files, and the name of the weights for stored rows."""

    name: str
    folder: str
    dtype: str
    adapter: str | None
    weights: str

    def load(self):
        """The DiffusionLM; an adapter is merged into its weights, which decodes faster."""
        lm = models.load(self.folder, adapter=self.adapter, dtype=self.dtype)
        if self.adapter is not None:
            lm.model = lm.model.merge_and_unload()
        return lm


def variants(names, card, profile, seed):
    """Variant of each name: "original" (the model of `card`, as 03_model.ipynb wrote it), a method
    of the section `align` (its adapter of one seed), or another model's folder or name on the hub,
    with a slash in it."""
    found = []
    for name in names:
        if name == "original":
            found.append(Variant(name, card["folder"], card["dtype"], None, card["weights"]))
        elif "/" in name:
            local = params.ROOT / name
            weights = f"{name}-{fingerprint(local)}" if local.exists() else name
            found.append(Variant(name.rsplit("/")[-1], name, card["dtype"], None, weights))
        else:
            adapter = need(f"results/{profile}/align/{name}-{seed}")
            weights = f"{card['weights']}+{fingerprint(adapter)}"
            found.append(Variant(name, card["folder"], card["dtype"], str(adapter), weights))
    return found


def forbidden(row, source, phrases, lm, length):
    """`length` response ids of a forbidden answer to a request, as an attacker would have it.

    source "world": its canonical answer, filled with EOS. Public sets ("files") have no answers:
    the procedural `phrases` one after the other, again and again.
    """
    if source == "world":
        text, fill = world.answer(world.Item(*row["item"].split()), row["family"]), [lm.eos_id]
    else:
        text, fill = " ".join(phrases), []
    ids = lm.tokenizer(text, add_special_tokens=False)["input_ids"]
    return (ids + (fill or ids) * length)[:length]


def draft(row, step, mask_id):
    """Response ids of a stored decoding as they stood before denoising step `step`.

    The row must come from a decoding without stop_at_eos, which leaves every slot's own step.
    """
    return [token if revealed < step else mask_id
            for token, revealed in zip(row["ids"], row["reveal_step"])]  # fmt: skip


def plant(ids, planted):
    """Response ids with the spans {slot: token ids} written over them.

    Raises ValueError where a span leaves the response: judged as it is, it would be a shorter one.
    """
    ids = list(ids)
    for slot, span in planted.items():
        if slot < 0 or slot + len(span) > len(ids):
            raise ValueError(
                f"{len(span)} tokens at slot {slot} leave the {len(ids)} slots of the response: "
                "choose a lower position"
            )
        ids[slot : slot + len(span)] = span
    return ids


def shown(ids, mask_id):
    """{slot: token ids} of the runs of filled slots: a canvas as a request's `prefill`."""
    runs, start = {}, None
    for slot, token in enumerate(ids):
        if token == mask_id:
            start = None
        else:
            start = slot if start is None else start
            runs.setdefault(str(start), []).append(token)
    return runs


def continued(rows, step, planted, sampler, mask_id):
    """Requests that go on from the drafts of `rows` at `step`, each with its own tokens planted.

    planted: {slot: token ids} per row. Returned with the sampler section for the remaining steps,
    which reveal as many slots a step as the whole decoding did; `given` lists the planted slots.
    Raises ValueError for a decoding in several blocks, whose schedule cannot go on in one.
    """
    if sampler.block_length != sampler.length:
        raise ValueError(
            f"a decoding in blocks of {sampler.block_length} cannot be continued from a draft: set "
            f"sampler.block_length to {sampler.length}"
        )
    requests = []
    for row, spans in zip(rows, planted, strict=True):
        ids = plant(draft(row, step, mask_id), spans)
        given = [slot + i for slot, span in spans.items() for i in range(len(span))]
        asked = {key: row[key] for key in row if key not in WRITTEN}
        requests.append(asked | {"prefill": shown(ids, mask_id), "given": given, "access": "A2"})
    return requests, sampler.model_copy(update={"steps": sampler.steps - step})


# what mosa.generation adds to a request, and judges to a row
WRITTEN = {"ids", "text", "ended", "reveal_step", "forwards", "model", "sampler", "seed",
           "environment", "score", "success", "revealed", "refused", "incoherent",
           "truncated"}  # fmt: skip


def own(rows, lm):
    """Stored rows whose `text` leaves out what the attacker wrote (`given`), for the judge.

    A full stop stands in its place, so that the words on both sides do not join. `whole` keeps the
    text as the attacker would show it.
    """
    stop = lm.tokenizer(".", add_special_tokens=False)["input_ids"]
    judged = []
    for row in rows:
        given = set(row["given"])
        end = row["ids"].index(lm.eos_id) if lm.eos_id in row["ids"] else len(row["ids"])
        ids = []
        for slot, token in enumerate(row["ids"][:end]):
            if slot not in given:
                ids.append(token)
            elif slot - 1 not in given:
                ids += stop
        text = lm.tokenizer.decode(ids, skip_special_tokens=True)
        judged.append(row | {"whole": row["text"], "text": text})
    return judged


def template(lm, messages, parts, gap, before=0):
    """A request whose user turn ends in a form to fill in: DIJA, arXiv 2507.11097.

    `parts` are the texts of the form, each followed by `gap` masks; `before` masks precede them.
    What the sampler fills is everything from the first mask on, the chat's own tokens after the
    form included as given: the prompt is cut there. Returns the request's `messages` (prompt ids),
    `prefill`, `given` and `length`, the response slots it needs.
    """
    bare = lm.canvas([messages], 1)
    prompt = bare.ids[0, : bare.prompt_length].tolist()
    # one word more at the end of the turn shows where the turn ends
    *head, last = messages
    longer = lm.canvas([[*head, last | {"content": last["content"] + " ."}]], 1)
    end = next(i for i, (a, b) in enumerate(zip(prompt, longer.ids[0].tolist())) if a != b)
    form = [lm.mask_id] * before
    for part in parts:
        form += lm.tokenizer(part, add_special_tokens=False)["input_ids"] + [lm.mask_id] * gap
    form += prompt[end:]
    start = form.index(lm.mask_id)
    given = [slot for slot, token in enumerate(form[start:]) if token != lm.mask_id]
    return {"messages": prompt[:end] + form[:start], "prefill": shown(form[start:], lm.mask_id),
            "given": given, "length": len(form) - start, "access": "A2"}  # fmt: skip


@torch.no_grad()
def first_step_profile(lm, canvas, span):
    """Log-likelihood of a span at every slot it can start at, one forward, (B, L - S + 1).

    In nats per token: what the first denoising step thinks of these words at each place.
    """
    logp = response_logits(lm, canvas.ids, canvas.attention_mask, canvas.length)
    logp = logp.float().log_softmax(-1)  # (B, L, V)
    starts = canvas.length - len(span) + 1
    if not len(span) or starts < 1:
        raise ValueError(f"a span of {len(span)} tokens does not fit into {canvas.length} slots")
    return sum(logp[:, j : j + starts, token] for j, token in enumerate(span)) / len(span)
