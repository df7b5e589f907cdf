"""Solutions of notebook 07, each with the reason, and answers to its questions."""

import numpy as np

ANSWERS = {
    1: """Each pass of a recurrent model is bits of its own, and the decoder makes a whole picture of the passes
    that are there. In `mini` all latents of a tile are in one chunk, each predicted from those before it: half of
    them are no picture, and the chunk's checksum cannot be checked.""",
    2: """Where one answer is large, others are large too. An entropy model that takes them for independent does
    not use that, and pays for it. After the division the answers tell less about each other: little is lost.
    (In the models here GDN stands further inside, and the last layer has none.)""",
    3: """It says in which steps the latents of each region were rounded, and it scales and shifts the features of
    g_s. Without it, the decoder would multiply the latents by wrong steps, and could not predict their scales.""",
    4: """From the squeeze, where six channels become their mean, and from rounding. Without rounding, the picture of
    the highest quality is the ceiling: rounding to ever finer steps can only come near it.""",
    5: """The budget is not the paper's: a fiftieth of the weights and still less of the training, and a start from
    noise, while `mini` starts from the DCT. On such a budget whatever learns fast is ahead.""",
}


def code_residual(x, passes):
    # One bit says on which side of x_hat the number lies; then x_hat moves to the middle of that half. What the next
    # pass codes is what this one left. (These are the binary digits of x, written as -1 and 1.)
    x_hat, step, bits = np.full(x.shape, 0.5), 0.25, []
    for _ in range(passes):
        bits.append(np.where(x - x_hat >= 0, 1, -1))
        x_hat = x_hat + step * bits[-1]
        step /= 2
    return np.array(bits)


def uncouple(u1, u2, scale, shift):
    # The last step first. v2 was changed by what u1 said, and u1 is here; v1 by what v2 said, which is known by then.
    v2 = (u2 - shift(u1)) / scale(u1)
    v1 = (u1 - shift(v2)) / scale(v2)
    return v1, v2


def window_attention(q, k, v, window):
    # A window is a small picture of its own. The greatest score of a row may be subtracted: numerator and denominator
    # shrink by the same factor, and exp() cannot overflow.
    out = []
    for i in range(0, len(q), window):
        scores = q[i : i + window] @ k[i : i + window].T / np.sqrt(q.shape[1])
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        out.append(weights @ v[i : i + window])
    return np.concatenate(out)
