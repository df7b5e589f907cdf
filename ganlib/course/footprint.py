"""What the networks need: bytes for a picture, bytes and seconds for a step of training."""

import time

import torch

from ganlib.codec.geometry import ceil_div
from ganlib.config import STRIDE
from ganlib.course.memory_meter import MB, MemoryBudget, rehearsal
from ganlib.training.loop import accelerator_for
from ganlib.training.rate_distortion import RateDistortionRun
from ganlib.weights import load_weights


def through(model, x, quality=50.0, realism=0.0):
    """x -> g_a -> gain, round -> 1/gain -> g_s -> x_hat: the effect of a file on a picture, without the file.

    The entropy coder in between works at 1/16 of the side and is left out.

    Args:
        model: CompressionModel; x: B,3,H,W in [0, 1], H and W multiples of 16.

    Returns:
        B,3,H,W.
    """
    quality, realism = (torch.full((len(x),), number) for number in (quality, realism))
    y_hat = (model.g_a(x) * model.gain(quality)).round()
    return model.g_s(y_hat * model.inverse_gain(quality), quality, realism)


def picture_peak(model, side):
    """Peak memory of a model for a picture of side x side in one piece, float32: 10^6 bytes.

    Counted without computing anything; the side is rounded up to a multiple of 16.
    """
    side = ceil_div(side, STRIDE) * STRIDE
    with rehearsal(), torch.inference_mode(), MemoryBudget() as budget:
        through(model, torch.rand(1, 3, side, side))
    return budget.peak / MB


def training_step(model_config, config, stage=RateDistortionRun, init=None):
    """Measure a step of training on noise: the content of the images changes neither number.

    The memory is that of a running training, with all that it keeps from step to step: weights, their average, their
    gradients and the optimizer's state, each as large as the weights, and LPIPS.

    Args:
        model_config, config: ModelConfig and TrainConfig; of the latter batch, crop, precision, accumulate and
            recompute matter.
        stage, init: as of `train`.

    Returns:
        {"peak_mb": 10^6 bytes, as MemoryBudget counts them, "seconds": of another step, not metered}.
    """
    with torch.random.fork_rng():
        run = stage(model_config, config, accelerator_for(config), load_weights(init) if init else None)
        device = run.accelerator.device
        run.model.train()
        x = torch.rand(config.batch, 3, config.crop, config.crop, device=device)
        quality = torch.linspace(config.quality_low, config.quality_high, config.batch, device=device)

        def step():
            run.update(x, quality, 1.0)
            run.average.update_parameters(run.bare_model)
            run.step += 1

        step()  # the first step only creates the optimizer's state
        with MemoryBudget(device=device) as budget:
            step()  # on a CPU a tensor counts once it is used: the optimizer's state, from the end of this step on
            step()
        began = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
        run.accelerator.free_memory()  # else the next measurement on a GPU may find these tensors still there
    return {"peak_mb": budget.peak / MB, "seconds": seconds}
