#!/usr/bin/env python3
"""Times MUNIT's published update (discriminators, then generators) in PyTorch, to be held against
`munit-bench train`.

  training_update.py --list                      the rows, as JSON
  training_update.py bf16-lean --dim 16 --size 128 --threads 2

The program warms up and prints one line of JSON with PyTorch's version. For each line with a number that
it then reads, it computes one iteration and as many more, and prints one line of JSON with the
milliseconds of these. Weights and pictures are random: speed does not depend on them.
"""

import argparse
import contextlib
import json
import os
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

STYLE_DIM, MLP_DIM, RESIDUAL_BLOCKS, DOWNSAMPLINGS = 8, 256, 4, 2
EPSILON = 1e-5


def instance_norm(x, scale=None, shift=None, as_batch_norm=False):
    """as_batch_norm: every channel of every sample a channel of one batch norm in training mode, whose
    backward pass is the fastest that PyTorch has on a CPU."""
    if not as_batch_norm:
        return F.instance_norm(x, None, None, scale, shift, True, 0.0, EPSILON)
    batch, channels, height, width = x.shape
    flat = x if batch == 1 else x.reshape(1, batch * channels, height, width)
    return F.batch_norm(flat, None, None, scale, shift, True, 0.0, EPSILON).view(batch, channels, height, width)


class LayerNorm(nn.Module):
    """Over channels and positions of a sample, unbiased deviation; a scale and shift per channel."""

    def __init__(self, channels):
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        x32 = x.float()
        mean = x32.mean(dim=(1, 2, 3), keepdim=True)
        deviation = x32.std(dim=(1, 2, 3), keepdim=True)
        scaled = (x32 - mean) / (deviation + EPSILON)
        return (scaled * self.gamma.view(1, -1, 1, 1) + self.beta.view(1, -1, 1, 1)).to(x.dtype)


class Block(nn.Module):
    """Reflection padding, convolution, norm, activation."""

    def __init__(self, inputs, outputs, kernel, stride, padding, norm="none", activation="relu"):
        super().__init__()
        self.pad = nn.ReflectionPad2d(padding)
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride)
        self.norm, self.activation = norm, activation
        self.layer_norm = LayerNorm(outputs) if norm == "layer" else None
        self.adain = None
        self.as_batch_norm = False

    def forward(self, x):
        x = self.conv(self.pad(x))
        if self.norm == "instance":
            x = instance_norm(x, as_batch_norm=self.as_batch_norm)
        elif self.norm == "adain":
            x = instance_norm(x, *self.adain, as_batch_norm=self.as_batch_norm)
        elif self.norm == "layer":
            x = self.layer_norm(x)
        if self.activation == "relu":
            return F.relu(x)
        if self.activation == "leaky":
            return F.leaky_relu(x, 0.2)
        return torch.tanh(x) if self.activation == "tanh" else x


class Residual(nn.Module):
    def __init__(self, channels, norm):
        super().__init__()
        self.first = Block(channels, channels, 3, 1, 1, norm)
        self.second = Block(channels, channels, 3, 1, 1, norm, "none")

    def forward(self, x):
        return x + self.second(self.first(x))


class Generator(nn.Module):
    def __init__(self, dim):
        super().__init__()
        content, width = [Block(3, dim, 7, 1, 3, "instance")], dim
        style = [Block(3, dim, 7, 1, 3)]
        for _ in range(DOWNSAMPLINGS):
            content.append(Block(width, 2 * width, 4, 2, 1, "instance"))
            style.append(Block(width, 2 * width, 4, 2, 1))
            width *= 2
        style += [Block(width, width, 4, 2, 1) for _ in range(2)]
        style += [nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, STYLE_DIM, 1)]
        content += [Residual(width, "instance") for _ in range(RESIDUAL_BLOCKS)]
        decoder = [Residual(width, "adain") for _ in range(RESIDUAL_BLOCKS)]
        for _ in range(DOWNSAMPLINGS):
            decoder += [nn.Upsample(scale_factor=2), Block(width, width // 2, 5, 1, 2, "layer")]
            width //= 2
        decoder.append(Block(width, 3, 7, 1, 3, "none", "tanh"))
        self.content, self.style, self.decoder = (nn.Sequential(*part) for part in (content, style, decoder))
        self.adaptive = [block for block in self.decoder.modules() if isinstance(block, Block) and block.norm == "adain"]
        parameters = sum(2 * block.conv.out_channels for block in self.adaptive)
        self.mlp = nn.Sequential(
            nn.Linear(STYLE_DIM, MLP_DIM), nn.ReLU(), nn.Linear(MLP_DIM, MLP_DIM), nn.ReLU(), nn.Linear(MLP_DIM, parameters)
        )

    def encode(self, x):
        return self.content(x), self.style(x)

    def decode(self, content, style):
        parameters, position = self.mlp(style.flatten(1)), 0
        for block in self.adaptive:
            channels = block.conv.out_channels
            shift, scale = parameters[:, position : position + 2 * channels].split(channels, dim=1)
            if not block.as_batch_norm:
                # As many channels as there are samples times channels, as in the published network.
                shift, scale = shift.reshape(-1), scale.reshape(-1)
            block.adain = (scale.reshape(-1).float(), shift.reshape(-1).float())
            position += 2 * channels
        return self.decoder(content)


class Discriminator(nn.Module):
    LAYERS, SCALES = 4, 3

    def __init__(self, dim):
        super().__init__()
        self.scales = nn.ModuleList()
        for _ in range(self.SCALES):
            width, layers = dim, [Block(3, dim, 4, 2, 1, "none", "leaky")]
            for _ in range(self.LAYERS - 1):
                layers.append(Block(width, 2 * width, 4, 2, 1, "none", "leaky"))
                width *= 2
            self.scales.append(nn.Sequential(*layers, nn.Conv2d(width, 1, 1)))

    def forward(self, x):
        scores = []
        for scale in self.scales:
            scores.append(scale(x))
            x = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
        return scores


def towards(scores, target):
    return sum(torch.mean((score.float() - target) ** 2) for score in scores)


def l1(x, target):
    return torch.mean(torch.abs(x.float() - target.float()))


class Trainer:
    def __init__(self, options, bf16, channels_last, as_batch_norm, lean):
        """lean: the discriminators' update without autograd through the generators, no gradients of the
        discriminators in the generators' update, and Adam over all parameters at once."""
        torch.manual_seed(0)
        self.batch, self.cycle, self.device = options.batch, options.cycle, options.device
        self.bf16, self.lean = bf16, lean
        self.gen_a, self.gen_b = Generator(options.dim), Generator(options.dim)
        self.dis_a, self.dis_b = Discriminator(options.dim), Discriminator(options.dim)
        x = [torch.rand(options.batch, 3, options.size, options.size) * 2 - 1 for _ in range(2)]
        for network in (self.gen_a, self.gen_b, self.dis_a, self.dis_b):
            for module in network.modules():
                if isinstance(module, (nn.Conv2d, nn.Linear)):
                    nn.init.kaiming_normal_(module.weight)
                    nn.init.zeros_(module.bias)
                elif isinstance(module, Block):
                    module.as_batch_norm = as_batch_norm
            network.to(self.device)
            if channels_last:
                network.to(memory_format=torch.channels_last)
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.x_a, self.x_b = (picture.to(self.device, memory_format=memory_format) for picture in x)
        self.gen_adam, self.dis_adam = self.adam(self.gen_a, self.gen_b), self.adam(self.dis_a, self.dis_b)

    def adam(self, *networks):
        parameters = [parameter for network in networks for parameter in network.parameters()]
        foreach = True if self.lean else None
        return torch.optim.Adam(parameters, lr=1e-4, betas=(0.5, 0.999), weight_decay=1e-4, foreach=foreach)

    def autocast(self):
        kind = self.device.split(":")[0]
        return torch.autocast(kind, torch.bfloat16) if self.bf16 else contextlib.nullcontext()

    def styles(self):
        return [torch.randn(self.batch, STYLE_DIM).to(self.device) for _ in range(2)]

    def iteration(self):
        self.update_discriminators()
        self.update_generators()
        if self.device != "cpu":
            torch.cuda.synchronize()

    def update_discriminators(self):
        self.dis_adam.zero_grad()
        s_a, s_b = self.styles()
        with self.autocast():
            with torch.no_grad() if self.lean else contextlib.nullcontext():
                c_a, _ = self.gen_a.encode(self.x_a)
                c_b, _ = self.gen_b.encode(self.x_b)
                x_ba, x_ab = self.gen_a.decode(c_b, s_a), self.gen_b.decode(c_a, s_b)
            loss = 0
            for dis, fake, real in ((self.dis_a, x_ba, self.x_a), (self.dis_b, x_ab, self.x_b)):
                loss = loss + towards(dis(fake.detach()), 0) + towards(dis(real), 1)
        loss.backward()
        self.dis_adam.step()

    def update_generators(self):
        self.gen_adam.zero_grad()
        if self.lean:
            self.discriminators_require_grad(False)
        s_a, s_b = self.styles()
        with self.autocast():
            x_a, x_b, gen_a, gen_b = self.x_a, self.x_b, self.gen_a, self.gen_b
            (c_a, s_a_prime), (c_b, s_b_prime) = gen_a.encode(x_a), gen_b.encode(x_b)
            x_a_recon, x_b_recon = gen_a.decode(c_a, s_a_prime), gen_b.decode(c_b, s_b_prime)
            x_ba, x_ab = gen_a.decode(c_b, s_a), gen_b.decode(c_a, s_b)
            (c_b_recon, s_a_recon), (c_a_recon, s_b_recon) = gen_a.encode(x_ba), gen_b.encode(x_ab)
            loss = 10 * (l1(x_a_recon, x_a) + l1(x_b_recon, x_b))
            loss = loss + l1(s_a_recon.flatten(1), s_a) + l1(s_b_recon.flatten(1), s_b)
            loss = loss + l1(c_a_recon, c_a) + l1(c_b_recon, c_b)
            if self.cycle > 0:
                x_aba, x_bab = gen_a.decode(c_a_recon, s_a_prime), gen_b.decode(c_b_recon, s_b_prime)
                loss = loss + self.cycle * (l1(x_aba, x_a) + l1(x_bab, x_b))
            loss = loss + towards(self.dis_a(x_ba), 1) + towards(self.dis_b(x_ab), 1)
        loss.backward()
        self.gen_adam.step()
        if self.lean:
            self.discriminators_require_grad(True)

    def discriminators_require_grad(self, required):
        for network in (self.dis_a, self.dis_b):
            network.requires_grad_(required)


ROWS = {
    "published": ("PyTorch fp32, as published", dict(bf16=False, channels_last=False, as_batch_norm=False, lean=False)),
    "fp32": ("PyTorch fp32, channels-last, batch norm", dict(bf16=False, channels_last=True, as_batch_norm=True, lean=False)),
    "bf16": ("PyTorch bf16 autocast, channels-last, batch norm", dict(bf16=True, channels_last=True, as_batch_norm=True, lean=False)),
    "bf16-lean": ("PyTorch bf16 autocast, channels-last, batch norm, lean", dict(bf16=True, channels_last=True, as_batch_norm=True, lean=True)),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", nargs="?", choices=ROWS, metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--list", action="store_true", help="print the rows")
    parser.add_argument("--dim", type=int, default=64, help="channels after the first convolution of every network")
    parser.add_argument("--size", type=int, default=128, help="side of the pictures")
    parser.add_argument("--batch", type=int, default=1, help="pictures of each domain in an iteration")
    parser.add_argument("--cycle", type=float, default=10.0, help="weight of the cycle; 0 leaves it out")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu or cuda:N")
    options = parser.parse_args()
    if options.list:
        print(json.dumps([{"engine": engine, "name": name} for engine, (name, _) in ROWS.items()]))
        return
    if options.engine is None:
        parser.error("name a row, or --list them")
    torch.set_num_threads(options.threads)
    # What libraries print must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    trainer = Trainer(options, **ROWS[options.engine][1])
    for _ in range(2):
        trainer.iteration()
    answer(answers, {"version": f"PyTorch {torch.__version__}"})
    for line in sys.stdin:
        trainer.iteration()
        answer(answers, {"ms": [timed(trainer.iteration) for _ in range(int(line))]})


def answer(answers, message):
    print(json.dumps(message), file=answers, flush=True)


def timed(compute):
    begin = time.perf_counter()
    compute()
    return (time.perf_counter() - begin) * 1e3


if __name__ == "__main__":
    main()
