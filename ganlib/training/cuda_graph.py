"""CUDA graphs: start thousands of small GPU kernels with one call instead of one by one."""

import torch

WARM_UP = 3  # calls before the recording; in these, libraries choose kernels and allocate memory


class Recorded:
    """A function that is recorded on a GPU, and from then on played back.

        call 1, 2, 3: runs normally
        call 4:       every kernel that it would start is recorded, with all addresses
        call 4, 5 ..: inputs are copied to those addresses, the kernels start together

    A step of `light` starts some five thousand kernels, most of which end before Python requests the next.

    Args:
        function: of tensors of fixed shapes. It must start the same kernels for all their values, so it must never
            read a value in Python; random numbers are fine. Anything else that it reads must keep its address.
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
    """The function, played back from a CUDA graph where it runs on one GPU; elsewhere unchanged."""
    return Recorded(function) if torch.device(device).type == "cuda" and processes == 1 else function
