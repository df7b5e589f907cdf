"""Muon: the optimizer of every network that is not a discriminator."""

from collections import defaultdict
from functools import partial

import torch

from ganlib.training.cuda_graph import recorded

# x (a + b x^2 + c x^4), five times, brings every singular value from 0.01 to 1 near 1: to between 0.68 and 1.14
QUINTIC = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """An optimizer whose steps are equally long in every direction that the gradient contains.

        gradient G: out x (in*k*k) --running mean--> M = U S V^T --Newton-Schulz--> about U V^T --> step

    A few large singular values dominate the gradient of a convolution. Here all become about 1, so directions that
    change the loss little are learnt as quickly as those that change it most (Jordan et al. 2024,
    kellerjordan.github.io/posts/muon). This needs only matrix products. Vectors, such as biases, use Adam.

    Args:
        parameters: weights. Dimension 0 is one side of a matrix (of a transposed convolution, the inputs), the others
            together the other side. Three dimensions are a stack of matrices.
        lr: step size: each singular value of a matrix's step is about this, times the root of rows / columns where a
            matrix is tall; for vectors as in Adam.
        betas: decay of the mean gradient, and of the mean squared gradient of vectors.
    """

    def __init__(self, parameters, lr, betas=(0.95, 0.95), eps=1e-8):
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps, "step": 0})
        self._forget_recordings()

    def _forget_recordings(self):
        self._updates = {}  # of each group: its _update(), recorded on a GPU

    def load_state_dict(self, state_dict):
        """Load a state. ValueError: another optimizer made it, as in checkpoints of version 1.0.0.

        (Loading makes new tensors, so recordings that use the old ones are dropped.)
        """
        super().load_state_dict(state_dict)
        self._forget_recordings()
        for weight, state in self.state.items():
            if {name: value.shape for name, value in state.items()} != dict.fromkeys(_names(weight), weight.shape):
                raise ValueError("another optimizer than Muon made it")

    @torch.no_grad()
    def step(self, closure=None):
        """One update of every parameter that has a gradient. Returns what `closure`, if any, returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for i, group in enumerate(self.param_groups):
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            for weight in weights:
                if not self.state[weight]:
                    self.state[weight].update({name: torch.zeros_like(weight) for name in _names(weight)})
            group["step"] += 1
            # Adam's correction for means that began at zero; a tensor, whose values a recorded update reads each time
            correct1, correct2 = (1 - beta ** group["step"] for beta in group["betas"])
            rates = torch.tensor([group["lr"], group["lr"] * correct2**0.5 / correct1], device=weights[0].device)
            addresses = [weight.grad.data_ptr() for weight in weights]
            if self._updates.get(i, (None, None))[0] != addresses:
                self._updates[i] = addresses, recorded(partial(self._update, weights, group), rates.device)
            self._updates[i][1](rates)
        return loss

    def _update(self, weights, group, rates):
        beta1, beta2 = group["betas"]
        means = [self.state[weight]["mean"] for weight in weights]
        torch._foreach_lerp_(means, [weight.grad for weight in weights], 1 - beta1)
        by_shape = defaultdict(list)  # matrices of one shape are stacked
        for weight in weights:
            by_shape[matrices(weight).shape[1:] if weight.dim() > 1 else None].append(weight)
        vectors = by_shape.pop(None, [])
        ahead = [  # Nesterov's momentum
            torch.cat([matrices(weight.grad.lerp(self.state[weight]["mean"], beta1)) for weight in alike])
            for alike in by_shape.values()
        ]
        for (rows, columns), alike, directions in zip(by_shape, by_shape.values(), orthogonalized(ahead)):
            steps = max(1, rows / columns) ** 0.5 * rates[0] * directions
            steps = steps.split([len(matrices(weight)) for weight in alike])
            torch._foreach_sub_(alike, [step.view_as(weight) for step, weight in zip(steps, alike)])
        if vectors:
            self._adam(vectors, beta2, group["eps"], rates[1])

    def _adam(self, vectors, beta2, eps, rate):
        squares = [self.state[vector]["square"] for vector in vectors]
        gradients = [vector.grad for vector in vectors]
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
        scales = torch._foreach_sqrt(squares)
        torch._foreach_add_(scales, eps)
        steps = torch._foreach_div([self.state[vector]["mean"] for vector in vectors], scales)
        torch._foreach_mul_(steps, rate)
        torch._foreach_sub_(vectors, steps)


def matrices(weight):
    """A weight -> stack of matrices, outputs by inputs: one of a convolution; of three dimensions, as it is."""
    return weight if weight.dim() == 3 else weight.flatten(1)[None]


def _names(weight):
    """Names of the tensors in the state of a weight, each of its shape."""
    return ("mean",) if weight.dim() > 1 else ("mean", "square")


def orthogonalized(stacks):
    """Every matrix U S V^T of some stacks -> about U V^T; a matrix of zeros stays zero.

    X <- P X with P = a + b X X^T + c (X X^T)^2, five times. Every P is a polynomial of the first X X^T, so these
    small squares are multiplied by each other before the wide X: a third of the time for 192x1728. In exchange,
    singular values below a thousandth of the largest are less exact, by up to 0.003. And squares of one size go
    through it together, however wide the X: fewer and larger operations, as a GPU wants them.

    Args:
        stacks: list of B,m,n tensors.

    Returns:
        list of tensors of the same shapes.
    """
    wide = [x.mT if x.shape[1] > x.shape[2] else x for x in stacks]
    wide = [x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7) for x in wide]  # no singular value above 1
    by_side = defaultdict(list)
    for i, x in enumerate(wide):
        by_side[x.shape[1]].append(i)
    results = list(stacks)
    for places in by_side.values():
        product = _product_of_polynomials(torch.cat([wide[i] @ wide[i].mT for i in places]))
        for i, part in zip(places, product.split([len(wide[i]) for i in places])):
            x = part @ wide[i]
            results[i] = x.mT if x.shape != stacks[i].shape else x
    return results


def _product_of_polynomials(square):
    """B,m,m: X X^T of each matrix -> P5 P4 P3 P2 P1."""
    a, b, c = QUINTIC
    product = None
    for i in range(ITERATIONS):
        p = torch.baddbmm(square, square, square, beta=b, alpha=c)
        p.diagonal(dim1=1, dim2=2).add_(a)
        product = p if product is None else p @ product
        if i + 1 < ITERATIONS:
            square = p @ square @ p  # X X^T of the next X
    return product
