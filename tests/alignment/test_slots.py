import pytest
import torch
from alignment.training_rows import LENGTH

from mosa.alignment import slots


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("function", ["tokens_and_kl", "kl_to_frozen"])
def test_gradients_by_hand_are_those_of_autograd(monkeypatch, function, dtype):
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(3, LENGTH, 50, generator=random).to(dtype)
    frozen = torch.randn(3, LENGTH, 50, generator=random).to(dtype)
    spans = torch.tensor([[1, 2], [3, 3], [5, 6]])  # a token twice: its gradients add up
    given = (spans,) if function == "tokens_and_kl" else ()
    results = []
    for at_once in (2**24, 1, 3500):  # autograd, one slot at a time, two slots at a time
        monkeypatch.setattr(slots, "AT_ONCE", at_once)
        ours = logits.clone().requires_grad_()
        found = getattr(slots, function)(ours, frozen.clone(), *given)
        found = found if isinstance(found, tuple) else (found,)
        weights = torch.Generator().manual_seed(1)
        sum((torch.randn(f.shape, generator=weights) * f).sum() for f in found).backward()
        results.append((*found, ours.grad))
    # bf16: autograd adds its two gradients in bf16 as well, in another order
    tolerance = {} if dtype == torch.float32 else {"rtol": 0.02, "atol": 0.02}
    for plain, *by_hand in zip(*results):
        for one in by_hand:
            torch.testing.assert_close(one, plain, **tolerance)
