"""The exact masked predictor of a grammar: what a perfect diffusion model of its texts would say.

A grammar's texts, filled with EOS or cropped to the response, are the paths of a hidden Markov
chain over the words of all its segments. The posterior of every masked slot, given any words that
are shown anywhere, follows by forward-backward in one pass each way.
"""

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from mosa.world.grammar import Grammar

EOS = "<eos>"
MASKED = -1


class Exact:
    """p(word at a slot | the words shown) of a grammar, for responses of `length` slots.

    words: what fills the grammar's slots ("{n}"). `vocabulary` lists the words that texts can
    hold, EOS first; words are given and returned as places in it.
    """

    def __init__(self, grammar: Grammar, length: int, words: dict[str, str] | None = None):
        self.length, self.vocabulary = length, [EOS]
        self.number = {EOS: 0}
        emits, edges, start = [0], [(0, 0, 1.0)], []  # state 0: EOS, for ever

        def state(word: str) -> int:
            if word not in self.number:
                self.number[word] = len(self.vocabulary)
                self.vocabulary.append(word)
            emits.append(self.number[word])
            return len(emits) - 1

        def join(ends: dict[int | None, float], to: int, share: float) -> None:
            for end, mass in ends.items():  # None: the response begins here
                start.append((to, mass * share)) if end is None else edges.append(
                    (end, to, mass * share))

        total = sum(weight for weight, _ in grammar)
        for weight, text in grammar:
            ends: dict[int | None, float] = {None: weight / total}  # last state -> what goes on
            for segment in text:
                whole, after = sum(w for w, _ in segment), {}
                for w, template in segment:
                    if not template:
                        for end, mass in ends.items():
                            after[end] = after.get(end, 0.0) + mass * w / whole
                        continue
                    states = [state(word) for word in template.format(**words or {}).split()]
                    join(ends, states[0], w / whole)
                    edges += [(a, b, 1.0) for a, b in zip(states, states[1:])]
                    after[states[-1]] = 1.0
                ends = after
            join(ends, 0, 1.0)
        n, self.emits = len(emits), np.array(emits)
        source, target, mass = zip(*edges)
        self._ahead = sparse.csr_array((mass, (target, source)), (n, n))
        self._back = sparse.csr_array(self._ahead.T)
        self._start = np.bincount([s for s, _ in start], [m for _, m in start], n)
        self._of_word = sparse.csr_array(
            (np.ones(n), (self.emits, range(n))), (len(self.vocabulary), n))

    def posterior(self, shown: np.ndarray, slack: float = 1e-9) -> np.ndarray:
        """(B, L, V) probabilities from shown (B, L): words, MASKED where nothing is shown.

        slack: the likelihood of a shown word where the grammar cannot have it, so that impossible
        evidence has an answer too. Raises ValueError for another length and for words that the
        vocabulary does not hold.
        """
        shown = np.asarray(shown)
        if shown.ndim != 2 or shown.shape[1] != self.length or shown.dtype.kind not in "iu":
            raise ValueError(f"shown must be whole numbers of shape (B, {self.length}), not "
                             f"{shown.dtype} of {shown.shape}")
        if shown.size and not MASKED <= shown.min() <= shown.max() < len(self.vocabulary):
            raise ValueError(f"shown must lie between {MASKED}, which is masked, and "
                             f"{len(self.vocabulary) - 1}, the last word of the vocabulary")
        fits = np.where((shown[:, :, None] < 0) | (shown[:, :, None] == self.emits), 1.0, slack)
        ahead = np.empty_like(fits)  # (B, L, states)
        ahead[:, 0] = self._start * fits[:, 0]
        for slot in range(1, self.length):
            ahead[:, slot - 1] /= ahead[:, slot - 1].sum(1, keepdims=True)
            ahead[:, slot] = (self._ahead @ ahead[:, slot - 1].T).T * fits[:, slot]
        behind = np.ones(fits[:, 0].shape)
        found = np.empty((*shown.shape, len(self.vocabulary)))
        for slot in range(self.length - 1, -1, -1):
            mass = ahead[:, slot] * behind
            found[:, slot] = (self._of_word @ (mass / mass.sum(1, keepdims=True)).T).T
            behind = (self._back @ (behind * fits[:, slot]).T).T
            behind /= behind.max(1, keepdims=True)
        return found

    def log_probability(self, words: Sequence[int]) -> float:
        """log p, in nats, of a whole response (L,); -inf if the grammar cannot write it.

        Raises ValueError for another length.
        """
        if len(words) != self.length:
            raise ValueError(f"{len(words)} words are no response of {self.length} slots")
        ahead, total = self._start * (self.emits == words[0]), 0.0
        for word in words[1:]:
            mass = ahead.sum()
            if not mass:
                return -np.inf
            total += np.log(mass)
            ahead = (self._ahead @ (ahead / mass)) * (self.emits == word)
        return total + (np.log(ahead.sum()) if ahead.any() else -np.inf)

    def numbers(self, text: str) -> list[int]:
        """A text as a whole response (L,): cropped, or filled with EOS; KeyError: unknown word."""
        return [self.number[w] for w in [*text.split(), *[EOS] * self.length][: self.length]]

    def text(self, words: Sequence[int]) -> str:
        """The text of a response, to its first EOS."""
        return " ".join(self.vocabulary[w] for w in words).partition(EOS)[0].strip()

    def decode(self, shown: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Low-confidence decoding at temperature 0, as mosa.denoise does it in one block.

        Returns words (B, L) and the step at which each slot was filled, MASKED where it was shown.
        Raises ValueError for less than one step, and as posterior() does.
        """
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        shown = np.array(shown)
        when = np.full(shown.shape, MASKED)
        masked = (shown < 0).sum(-1)
        for step in range(steps):
            p = self.posterior(shown)
            sure = np.where(shown < 0, p.max(2), -1.0)
            for row, order in enumerate(np.argsort(-sure, 1, kind="stable")):
                slots = order[: masked[row] // steps + (step < masked[row] % steps)]
                shown[row, slots], when[row, slots] = p[row, slots].argmax(1), step
        return shown, when
