"""SOAP on the output side: the optimizer of every network that is not a discriminator."""

from collections import defaultdict
from functools import partial

import torch

from ganlib.training.cuda_graph import recorded

RIDGE = 1e-7  # of the mean variance, added to every direction: a covariance of few gradients has none in some


class OutputSideSOAP(torch.optim.Optimizer):
    """Adam in the eigenbasis of the gradient's covariance between output channels.

        gradient G: out x (in*k*k) --Q^T--> rotated --Adam--> step --Q--> weight
        Q: eigenvectors of the running mean of G G^T, renewed every `renew` steps

    SOAP (Vyas et al. 2024) rotates both sides of each weight. The output side alone costs a third as much time, and
    on `light` it learnt faster for each step too (data/weights/README.md). Vectors, such as biases, get plain Adam.

    Args:
        parameters: weights, of which dimension 0 is the output side.
        lr: step size; as in Adam, each element moves by about this much.
        betas: decay of the mean gradient, and of its mean square and covariance.
        renew: steps between two renewals of Q: one step of power iteration, made orthogonal again.
    """

    def __init__(self, parameters, lr, betas=(0.95, 0.95), eps=1e-8, renew=10):
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps, "renew": renew, "step": 0})
        self._forget_recordings()

    def _forget_recordings(self):
        self._updates = {}  # of each group: its _update(), perhaps recorded

    def load_state_dict(self, state_dict):
        """Go on from a state. (Its tensors are new ones, so what was recorded with the old ones is void.)"""
        super().load_state_dict(state_dict)
        self._forget_recordings()

    @torch.no_grad()
    def step(self, closure=None):
        """One update of every parameter that has a gradient. Returns what `closure`, if any, returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for i, group in enumerate(self.param_groups):
            weights = [weight for weight in group["params"] if weight.grad is not None]
            fresh = [weight for weight in weights if not self.state[weight]]
            moving = [weight for weight in weights if self.state[weight]]
            for weight in fresh:  # the first gradient gives the first basis, and moves nothing
                self._begin(weight, group)
            if not moving:
                continue
            group["step"] += 1
            # Adam's correction for means that began at zero; in a tensor, which a recorded update reads anew
            correct1, correct2 = (1 - beta ** group["step"] for beta in group["betas"])
            rate = torch.tensor(group["lr"] * correct2**0.5 / correct1, device=moving[0].device)
            addresses = [weight.grad.data_ptr() for weight in moving]
            if self._updates.get(i, (None, None))[0] != addresses:
                update = recorded(partial(self._update, moving, group), rate.device)
                self._updates[i] = addresses, update
            self._updates[i][1](rate)
            if group["step"] % group["renew"] == 0:
                self._renew(moving)
        return loss

    def _begin(self, weight, group):
        gradient, state = _as_matrix(weight.grad), self.state[weight]
        state["mean"], state["square"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
        if gradient.dim() > 1:
            state["covariance"] = (1 - group["betas"][1]) * gradient @ gradient.T
            state["basis"] = torch.linalg.eigh(state["covariance"]).eigenvectors.flip(1)

    def _update(self, weights, group, rate):
        # torch._foreach_*: one operation on many tensors, which a GPU is handed all at once
        beta1, beta2 = group["betas"]
        states = [self.state[weight] for weight in weights]
        gradients = [_as_matrix(weight.grad) for weight in weights]
        means, squares = ([state[name] for state in states] for name in ("mean", "square"))
        torch._foreach_lerp_(means, gradients, 1 - beta1)
        rotated, directions = ([_rotate(s, t) for s, t in zip(states, ts)] for ts in (gradients, means))
        torch._foreach_lerp_(squares, torch._foreach_mul(rotated, rotated), 1 - beta2)
        sizes = torch._foreach_sqrt(squares)
        torch._foreach_add_(sizes, group["eps"])
        updates = torch._foreach_div(directions, sizes)
        torch._foreach_mul_(updates, rate)
        updates = [_rotate_back(state, update).view_as(w) for state, update, w in zip(states, updates, weights)]
        torch._foreach_sub_(weights, updates)
        matrices = [(state, gradient) for state, gradient in zip(states, gradients) if "basis" in state]
        if matrices:
            covariances = [state["covariance"] for state, _ in matrices]
            torch._foreach_lerp_(covariances, [g @ g.T for _, g in matrices], 1 - beta2)

    def _renew(self, weights):
        by_side = defaultdict(list)
        for weight in weights:
            if weight.dim() > 1:
                by_side[len(weight)].append(self.state[weight])
        for states in by_side.values():
            _renew(states)


def _as_matrix(tensor):
    """out,in,k,k -> out,in*k*k; a vector as it is."""
    return tensor.flatten(1) if tensor.dim() > 1 else tensor


def _rotate(state, tensor):
    return state["basis"].T @ tensor if "basis" in state else tensor


def _rotate_back(state, tensor):
    return state["basis"] @ tensor if "basis" in state else tensor


def _renew(states):
    """The eigenvectors follow the covariance, the largest first; the mean squares keep their places with them.

    One step of power iteration, and a QR decomposition: that of the columns at unit length, which are nearly
    orthogonal already, by Cholesky, since for many matrices at once a GPU has no other that is quick.

    Args:
        states: of matrices with equally many rows.
    """
    covariance = torch.stack([state["covariance"] for state in states]).double()
    basis = torch.stack([state["basis"] for state in states]).double()
    variance = covariance.diagonal(dim1=1, dim2=2).mean(dim=1)[:, None, None]
    product = covariance @ basis + (RIDGE * variance + torch.finfo(torch.float32).tiny) * basis
    order = (basis * product).sum(dim=1).argsort(dim=1, descending=True)
    product = product.gather(2, order[:, None].expand_as(product))
    product = product / product.norm(dim=1, keepdim=True)
    triangle, failed = torch.linalg.cholesky_ex(product.mT @ product, upper=True)
    renewed = torch.linalg.solve_triangular(triangle, product, upper=True, left=False)
    failed = (failed != 0)[:, None]  # there the old basis, in its old order, serves once more
    order = torch.where(failed, torch.arange(order.shape[1], device=order.device), order)
    chosen = torch.where(failed[:, :, None], basis, renewed).to(states[0]["basis"].dtype)
    torch._foreach_copy_([state["basis"] for state in states], list(chosen))
    squares = [state["square"] for state in states]
    torch._foreach_copy_(squares, [square[rows] for square, rows in zip(squares, order)])
