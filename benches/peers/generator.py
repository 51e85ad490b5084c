"""The translating half of MUNIT, content encoder and decoder with a fixed style, in PyTorch.

Weights are random: speed does not depend on them. `norms` chooses the kernels that compute the norms:

textbook   what the papers' formulas suggest: instance_norm, mean and std
group      group_norm, which keeps a channels-last layout
var_mean   var_mean and plain arithmetic, which compilers fuse

With `phase` each upsampling (nearest x2, then 5x5) is one 3x3 convolution on the small map, with one set
of weights for each of the four pixels that a pixel becomes, and a pixel shuffle. That is exact but for the
outermost ring of the picture.
"""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import nn

EPSILON = 1e-5


class InstanceNorm(nn.Module):
    def __init__(self, channels, norms, styled):
        super().__init__()
        self.channels, self.norms = channels, norms
        scale, shift = torch.rand(channels) + 0.5, 0.1 * torch.randn(channels)
        self.register_buffer("scale", scale if styled else None)
        self.register_buffer("shift", shift if styled else None)

    def forward(self, x):
        if self.norms == "textbook":
            return F.instance_norm(x, weight=self.scale, bias=self.shift, eps=EPSILON)
        if self.norms == "group":
            return F.group_norm(x, self.channels, self.scale, self.shift, EPSILON)
        variance, mean = torch.var_mean(x, dim=(2, 3), correction=0, keepdim=True)
        x = (x - mean) * torch.rsqrt(variance + EPSILON)
        return x if self.scale is None else x * self.scale[:, None, None] + self.shift[:, None, None]


class LayerNorm(nn.Module):
    def __init__(self, channels, norms):
        super().__init__()
        self.norms = norms
        self.register_buffer("scale", torch.rand(channels))
        self.register_buffer("shift", torch.zeros(channels))

    def forward(self, x):
        if self.norms == "group":
            return F.group_norm(x, 1, self.scale, self.shift, EPSILON)
        if self.norms == "textbook":
            mean, deviation = x.mean((1, 2, 3), keepdim=True), x.std((1, 2, 3), keepdim=True)
        else:
            variance, mean = torch.var_mean(x, dim=(1, 2, 3), keepdim=True)
            deviation = variance.sqrt()
        return (x - mean) / (deviation + EPSILON) * self.scale[:, None, None] + self.shift[:, None, None]


class Convolution(nn.Module):
    def __init__(self, inputs, outputs, kernel, stride=1):
        super().__init__()
        self.stride = stride
        self.padding = (kernel - 1) // 2
        deviation = math.sqrt(2 / (inputs * kernel * kernel))
        self.register_buffer("weight", deviation * torch.randn(outputs, inputs, kernel, kernel))
        self.register_buffer("bias", 0.1 * torch.randn(outputs))

    def forward(self, x):
        return F.conv2d(F.pad(x, [self.padding] * 4, mode="reflect"), self.weight, self.bias, self.stride)


class Upsampling(Convolution):
    """Nearest x2, then 5x5."""

    def __init__(self, inputs, outputs, phase):
        super().__init__(inputs, outputs, 5)
        self.phase = phase
        if phase:
            self.weight, self.bias = folded(self.weight), self.bias.repeat_interleave(4)

    def forward(self, x):
        if self.phase:
            return F.pixel_shuffle(F.conv2d(F.pad(x, [1] * 4, mode="replicate"), self.weight, self.bias), 2)
        return super().forward(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def folded(weight):
    """[O, I, 5, 5] to [4 O, I, 3, 3]: for pixel (y, x) of four, the tap (v, u) of the large map, -2 to 2,
    reads the small map's pixel (floor((y + v) / 2), floor((x + u) / 2))."""
    outputs, inputs = weight.shape[:2]
    small = weight.new_zeros(outputs, 2, 2, inputs, 3, 3)
    for y, x, v, u in itertools.product(range(2), range(2), range(-2, 3), range(-2, 3)):
        small[:, y, x, :, (y + v) // 2 + 1, (x + u) // 2 + 1] += weight[:, :, v + 2, u + 2]
    return small.reshape(4 * outputs, inputs, 3, 3)


class Residual(nn.Module):
    def __init__(self, channels, norms, styled):
        super().__init__()
        self.layers = nn.Sequential(
            Convolution(channels, channels, 3),
            InstanceNorm(channels, norms, styled),
            nn.ReLU(),
            Convolution(channels, channels, 3),
            InstanceNorm(channels, norms, styled),
        )

    def forward(self, x):
        return x + self.layers(x)


def generator(dim, n_res=4, norms="textbook", phase=False):
    """[1, 3, H, W] to [1, 3, H, W]; the same sizes give the same weights."""
    torch.manual_seed(0)
    layers = [Convolution(3, dim, 7), InstanceNorm(dim, norms, False), nn.ReLU()]
    for width in (dim, 2 * dim):
        layers += [Convolution(width, 2 * width, 4, 2), InstanceNorm(2 * width, norms, False), nn.ReLU()]
    layers += [Residual(4 * dim, norms, False) for _ in range(n_res)]
    layers += [Residual(4 * dim, norms, True) for _ in range(n_res)]
    for width in (4 * dim, 2 * dim):
        layers += [Upsampling(width, width // 2, phase), LayerNorm(width // 2, norms), nn.ReLU()]
    layers += [Convolution(dim, 3, 7), nn.Tanh()]
    return nn.Sequential(*layers).eval()
