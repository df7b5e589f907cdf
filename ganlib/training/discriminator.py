"""Before stage two: the discriminator learns alone, against a model that is frozen as a whole.

    x --g_a, entropy model, g_s (all frozen)--> x_hat --> Discriminator(x_hat, y_hat) down
    |___________________________________________________> Discriminator(x, y_hat) up

Against a discriminator with random weights, a generator learns from noise at first. Against one that recognizes its
reconstructions, the first step is useful. The few hundred steps for this are done once and their result is shipped.
"""

import numpy as np
import torch

from ganlib.codec.pixel_tensors import to_tensor
from ganlib.config import HYPER_STRIDE
from ganlib.training.adversarial import AdversarialRun, evaluation_mode
from ganlib.training.run import finite_step, set_learning_rate


class DiscriminatorRun(AdversarialRun):
    """Stage two with a frozen generator: each step updates only the discriminator.

    Every crop counts fully, as one at realism 1 does. (Arguments as of AdversarialRun.)
    """

    STAGE = "discriminator"
    COLUMNS = ("loss", "d_real", "d_fake")

    def update(self, x, quality, factor):
        # with the factor, unlike in stage two: the generator does not change here, so the last steps may be small
        set_learning_rate(self.discriminator_optimizer, factor * self.config.discriminator_lr)
        self.bare_model.eval()  # rounding as in the file, not noise
        realism = torch.ones(len(x), device=x.device)
        gradients = self.discriminator_gradients(x, self.latents(x, quality), quality, realism)
        return finite_step(self.discriminator_optimizer, self.accelerator, gradients)


@torch.no_grad()
def verdicts(discriminator, model, pictures, quality):
    """Verdicts of a discriminator on photographs and on a model's reconstructions of them at realism 1.

    Args:
        discriminator, model: Discriminator and CompressionModel, on one device.
        pictures: list of H,W,3 uint8, sides of 64 pixels or more; what is beyond a multiple of 64 is left out.
        quality: of the reconstructions.

    Returns:
        N,2: mean D(x) and mean D(x_hat) of each picture, probabilities of being a photograph.
    """
    model.eval()
    device, rows = next(model.parameters()).device, []
    q, r = (torch.tensor([float(value)], device=device) for value in (quality, 1))
    for pixels in pictures:
        height, width = (n - n % HYPER_STRIDE for n in pixels.shape[:2])
        x = to_tensor(pixels[:height, :width], device)
        out = model(x, q, r)
        y_hat = out["y_hat"] * model.inverse_gain(q)
        with evaluation_mode(discriminator):
            rows.append([discriminator(image, y_hat).sigmoid().mean().item() for image in (x, out["x_hat"])])
    return np.array(rows)
