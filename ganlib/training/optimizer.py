"""SOAP on the output side: the optimizer of every network that is not a discriminator."""

import torch


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
        renew: steps between two renewals of Q: one step of power iteration, and a QR decomposition.
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
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, group)
        return loss

    def _update(self, weight, group):
        beta1, beta2 = group["betas"]
        matrix = weight.dim() > 1
        gradient = weight.grad.flatten(1) if matrix else weight.grad
        state = self.state[weight]
        if not state:
            state["step"] = 0
            state["mean"] = torch.zeros_like(gradient)
            state["square"] = torch.zeros_like(gradient)
            if matrix:
                state["covariance"] = (1 - beta2) * gradient @ gradient.T
                state["basis"] = torch.linalg.eigh(state["covariance"]).eigenvectors.flip(1)
            return  # the first gradient gives the first basis, and moves nothing
        state["step"] += 1
        state["mean"].lerp_(gradient, 1 - beta1)
        mean = state["mean"]
        if matrix:
            gradient, mean = state["basis"].T @ gradient, state["basis"].T @ mean
        state["square"].lerp_(gradient.square(), 1 - beta2)
        # Adam's correction for means that began at zero
        correct1, correct2 = 1 - beta1 ** state["step"], 1 - beta2 ** state["step"]
        update = mean / correct1 / ((state["square"] / correct2).sqrt_().add_(group["eps"]))
        if matrix:
            update = state["basis"] @ update
            state["covariance"].lerp_(weight.grad.flatten(1) @ weight.grad.flatten(1).T, 1 - beta2)
            if state["step"] % group["renew"] == 0:
                self._renew(state)
        weight.add_(update.view_as(weight), alpha=-group["lr"])

    def _renew(self, state):
        """The eigenvectors follow the covariance, the largest first; the mean squares keep their places with them."""
        covariance, basis = state["covariance"], state["basis"]
        product = covariance @ basis
        order = (basis * product).sum(dim=0).argsort(descending=True)
        state["square"] = state["square"][order]
        state["basis"] = torch.linalg.qr(product[:, order]).Q
