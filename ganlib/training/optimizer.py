"""SOAP on the output side: the optimizer of every network that is not a discriminator."""

from collections import defaultdict

import torch

RIDGE = 1e-7  # of the mean variance, added to every direction: a covariance of few gradients has none in some


class OutputSideSOAP(torch.optim.Optimizer):
    """Adam in the eigenbasis of the gradient's covariance between output channels.

        gradient G: out x (in*k*k) --Q^T--> rotated --Adam--> step --Q--> weight
        Q: eigenvectors of the running mean of G G^T, renewed every `renew` steps

    SOAP (Vyas et al. 2024) rotates both sides of each weight. The output side alone costs a fifth as much time, and
    on `light` it learnt faster for each step too (data/weights/README.md). Vectors, such as biases, get plain Adam.

    Args:
        parameters: weights, of which dimension 0 is the output side.
        lr: step size; as in Adam, each element moves by about this much.
        betas: decay of the mean gradient, and of its mean square and covariance.
        renew: steps between two renewals of Q: one step of power iteration, made orthogonal again.
    """

    def __init__(self, parameters, lr, betas=(0.95, 0.95), eps=1e-8, renew=10):
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps, "renew": renew})

    @torch.no_grad()
    def step(self, closure=None):
        """One update of every parameter that has a gradient. Returns what `closure`, if any, returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            fresh = [weight for weight in weights if not self.state[weight]]
            moving = [weight for weight in weights if self.state[weight]]
            for weight in fresh:  # the first gradient gives the first basis, and moves nothing
                self._begin(weight, group)
            if moving:
                self._update(moving, group)
        return loss

    def _begin(self, weight, group):
        gradient, state = _as_matrix(weight.grad), self.state[weight]
        state["step"] = 0
        state["mean"], state["square"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
        if gradient.dim() > 1:
            state["covariance"] = (1 - group["betas"][1]) * gradient @ gradient.T
            state["basis"] = torch.linalg.eigh(state["covariance"]).eigenvectors.flip(1)

    def _update(self, weights, group):
        # torch._foreach_*: one operation on many tensors, which a GPU is handed all at once
        beta1, beta2 = group["betas"]
        states = [self.state[weight] for weight in weights]
        for state in states:
            state["step"] += 1
        gradients = [_as_matrix(weight.grad) for weight in weights]
        means, squares = ([state[name] for state in states] for name in ("mean", "square"))
        torch._foreach_lerp_(means, gradients, 1 - beta1)
        rotated, directions = ([_rotate(s, t) for s, t in zip(states, ts)] for ts in (gradients, means))
        torch._foreach_lerp_(squares, torch._foreach_mul(rotated, rotated), 1 - beta2)
        # Adam's correction for means that began at zero
        sizes = torch._foreach_div(squares, [1 - beta2 ** state["step"] for state in states])
        torch._foreach_sqrt_(sizes)
        torch._foreach_add_(sizes, group["eps"])
        torch._foreach_mul_(sizes, [1 - beta1 ** state["step"] for state in states])
        updates = torch._foreach_div(directions, sizes)
        updates = [_rotate_back(state, update).view_as(w) for state, update, w in zip(states, updates, weights)]
        torch._foreach_add_(weights, updates, alpha=-group["lr"])

        matrices = [(state, gradient) for state, gradient in zip(states, gradients) if "basis" in state]
        if matrices:
            covariances = [state["covariance"] for state, _ in matrices]
            torch._foreach_lerp_(covariances, [g @ g.T for _, g in matrices], 1 - beta2)
        by_side = defaultdict(list)
        for state, gradient in matrices:
            if state["step"] % group["renew"] == 0:
                by_side[len(gradient)].append(state)
        for together in by_side.values():
            _renew(together)


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
    for i, state in enumerate(states):
        good = failed[i] == 0  # else the old basis, in its old order, serves once more
        state["square"] = torch.where(good, state["square"][order[i]], state["square"])
        state["basis"] = torch.where(good, renewed[i], basis[i]).to(state["basis"])
