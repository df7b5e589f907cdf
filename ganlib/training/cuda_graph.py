"""CUDA graphs: thousands of small kernels that a GPU is asked for at once, not one after the other."""

import torch

WARM_UP = 3  # calls before the recording, in which libraries choose their kernels and allocate


class Recorded:
    """A function that is recorded on a GPU, and from then on played back.

        call 1, 2, 3: runs as it is
        call 4:       every kernel that it would start is written down, with all addresses
        call 4, 5 ..: inputs are copied to those addresses, the kernels start together

    A step of `light` starts some five thousand kernels, most of which are done before Python has asked for the next.

    Args:
        function: of tensors of fixed shapes. It must start the same kernels whatever they hold, and so never ask for
            a value; random numbers are fine. What it reads beside its inputs must stay where it is in memory.
    """

    def __init__(self, function):
        self.function, self.calls, self.graph = function, 0, None
        self.stream = torch.cuda.Stream()

    def __call__(self, *inputs):
        """What the function returns; the next call overwrites it."""
        if self.calls < WARM_UP:
            self.calls += 1
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                results = self.function(*inputs)
            torch.cuda.current_stream().wait_stream(self.stream)
            return results
        if self.graph is None:
            self.inputs, self.graph = [tensor.clone() for tensor in inputs], torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, stream=self.stream, capture_error_mode="thread_local"):
                self.results = self.function(*self.inputs)
        for kept, tensor in zip(self.inputs, inputs, strict=True):
            kept.copy_(tensor)
        self.graph.replay()
        return self.results


def recorded(function, device, processes=1):
    """The function, played back from a CUDA graph where it runs on one GPU; elsewhere as it is."""
    return Recorded(function) if torch.device(device).type == "cuda" and processes == 1 else function
