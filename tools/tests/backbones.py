#!/usr/bin/env python3
"""Prints backbones.json: the tensors of published feature networks, and what these compute.

Needs PyTorch, torchvision, and the packages lpips and torch-fidelity. No weights are fetched: those of
each network follow a rule. Count its tensors from 1 in the order of their names. Element i of tensor k,
in row-major order, is sin(0.37 i + k) times a scale, in fp64, rounded to fp32:

  weights of convolutions and linear layers    2 / sqrt(fan-in)
  biases and running means                     0.05
  weights of batch norms, running variances    1 + 0.2 sin(...)

The pictures [2, 3, H, W] are tensor 0 with scale 1. Of each result the first three numbers of the
first picture and the Euclidean length of all are kept. With a folder as argument, the state dicts are
written there, as PyTorch saves them now and as it did before version 1.6.
"""

import json
import sys

import lpips
import torch
import torchvision
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3


def rule(number, shape, scale):
    count = torch.Size(shape).numel()
    values = torch.sin(0.37 * torch.arange(count, dtype=torch.float64) + number) * scale
    return values.reshape(shape)


def fill(state):
    names = sorted(name for name in state if not name.endswith("num_batches_tracked"))
    for number, name in enumerate(names, 1):
        shape = state[name].shape
        if len(shape) > 1:
            values = rule(number, shape, 2 / (state[name][0].numel() ** 0.5))
        elif name.endswith(("bias", "running_mean")):
            values = rule(number, shape, 0.05)
        else:
            values = 1 + rule(number, shape, 0.2)
        state[name].copy_(values)


networks = {}


def keep(name, module):
    shapes = module.state_dict().items()
    shapes = {key: list(value.shape) for key, value in shapes if not key.endswith("num_batches_tracked")}
    networks[name] = {"shapes": shapes}
    if len(sys.argv) > 1:
        path = f"{sys.argv[1]}/{name}"
        torch.save(module.state_dict(), f"{path}.pth")
        torch.save(module.state_dict(), f"{path}_old.pth", _use_new_zipfile_serialization=False)


def tell(name, what, values):
    flat = values.detach().double().flatten()
    numbers = [*flat[: min(3, values[0].numel())].tolist(), flat.norm().item()]
    networks[name][what] = [float(f"{number:.7g}") for number in numbers]


torch.set_grad_enabled(False)
models = torchvision.models
mean = torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
deviation = torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)


def picture(side):
    return rule(0, [2, 3, side, side], 1).float()


def prepared(side):
    return ((picture(side) + 1) / 2 - mean) / deviation


for name, net, side in [("alexnet", "alex", 64), ("vgg16", "vgg", 32), ("squeezenet1_1", "squeeze", 64)]:
    module = getattr(models, name)().eval()
    fill(module.state_dict())
    keep(name, module)
    # The last layers of AlexNet and VGG are poolings, which belong to the classifier.
    layers = module.features if net == "squeeze" else module.features[:-1]
    tell(name, "features", layers(prepared(side)).mean([2, 3]))
    if name == "squeezenet1_1":
        tell(name, "logits", module(prepared(side)))
    metric = lpips.LPIPS(net=net, pretrained=False, pnet_rand=True, verbose=False)
    lins = torch.nn.ModuleDict({f"lin{i}": lin for i, lin in enumerate(metric.lins)})
    fill(lins.state_dict())
    keep(f"lpips_{net}", lins)
    features = module.features.state_dict()
    metric.net.load_state_dict({key: features[key.split(".", 1)[1]] for key in metric.net.state_dict()})
    tell(name, "perceptual", metric(picture(side)[:1], picture(side)[1:]))

for name in ["squeezenet1_0", "resnet18", "resnet50"]:
    module = getattr(models, name)().eval()
    fill(module.state_dict())
    keep(name, module)
    tell(name, "logits", module(prepared(64 if name == "squeezenet1_0" else 224)))

# The package would fetch its weights.
torch.load = lambda *_, **__: {}
FeatureExtractorInceptionV3.load_state_dict = lambda *_: None
names = ["2048", "logits_unbiased"]
module = FeatureExtractorInceptionV3("inception-v3-compat", names, "none")
fill(module.state_dict())
keep("inception", module)
pictures = ((picture(80) + 1) * 127.5).round().to(torch.uint8)
for what, values in zip(["features", "logits"], module(pictures)):
    tell("inception", what, values)

lines = ",\n".join(f' "{name}": {json.dumps(network)}' for name, network in networks.items())
print(f"{{\n{lines}\n}}")
