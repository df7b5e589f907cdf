"""Solutions of notebook 04, one function for each exercise, and answers to its questions."""

from torch.nn.functional import mse_loss, softplus

ANSWERS = {
    1: """The mean of all textures that fit the same bits has the smallest expected squared error, and a mean of sharp
    textures is blurred. A larger network only computes this mean more exactly.""",
    2: """detach() in the discriminator's update: without it, the generator would be given the gradient of a loss that
    wants its pictures to be recognized. Freezing in the generator's update: without it, gradients of the wrong
    sign would gather in the discriminator, and asking it would change its spectral norms.""",
    3: """That the discriminator cannot tell photographs from reconstructions. Either the reconstructions look like
    photographs, or the discriminator has learned nothing (as at the start). Train a new discriminator against
    the frozen generator, or look at the pictures: that tells one from the other.""",
    4: """An encoder that has changed writes other files: those that were written before could not be decoded any
    more. With a frozen encoder the same file serves every realism, and generators can be exchanged.""",
    5: """No. LPIPS was trained on, so its value is low even where the picture is not natural: section 7 has a picture
    with a low LPIPS and 12 dB of PSNR. Look at a distance that was not trained on (DISTS, the Frechet distance
    of patches), at a discriminator trained anew, and at the picture.""",
}


def discriminator_step(discriminator, optimizer, x, x_hat):
    """-log(1 - sigmoid(t)) = softplus(t). Without detach(), backward() would run on into the generator."""
    optimizer.zero_grad()
    loss = softplus(-discriminator(x)).mean() + softplus(discriminator(x_hat.detach())).mean()
    loss.backward()
    optimizer.step()
    return loss.item()


def generator_step(generator, discriminator, optimizer, x, y_hat, weight):
    """-log sigmoid(t) = softplus(-t), finite for every t; the gradient runs through the frozen discriminator."""
    optimizer.zero_grad()
    discriminator.requires_grad_(False)
    x_hat = generator(y_hat)
    loss = mse_loss(x_hat, x) + weight * softplus(-discriminator(x_hat)).mean()
    loss.backward()
    discriminator.requires_grad_(True)
    optimizer.step()
    return loss.item()


def train(generator, discriminator, g_optimizer, d_optimizer, batches, weight):
    """One update of each for every batch; the generator meets the discriminator that has just learned."""
    losses = []
    for x, y_hat in batches:
        d_loss = discriminator_step(discriminator, d_optimizer, x, generator(y_hat))
        g_loss = generator_step(generator, discriminator, g_optimizer, x, y_hat, weight)
        losses.append((d_loss, g_loss))
    return losses
