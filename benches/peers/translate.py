#!/usr/bin/env python3
"""Times MUNIT's generator in another engine, at the pace of `munit-bench compare`, which starts it.

  translate.py --list                            the engines, as JSON
  translate.py openvino-bf16 --dim 64 --size 256x256 --threads 2

The program warms up and prints one line of JSON with the engine's version. For each line with a number
that it then reads, it translates one frame and as many more, and prints one line of JSON with the
milliseconds of these. Peers are timed from tensor to tensor, without the way from and to a frame's bytes.
"""

import argparse
import json
import os
import sys
import tempfile
import time

CPU_ENGINES = {
    "pytorch-fp32": "PyTorch eager fp32",
    "pytorch-bf16": "PyTorch bf16, channels-last",
    "pytorch-bf16-phase": "PyTorch bf16, channels-last, phase-decomposed",
    "compile-bf16": "torch.compile bf16",
    "onnxruntime-fp32": "ONNX Runtime fp32",
    "openvino-fp32": "OpenVINO fp32",
    "openvino-fp32-phase": "OpenVINO fp32, phase-decomposed",
    "openvino-bf16": "OpenVINO bf16",
    "openvino-bf16-phase": "OpenVINO bf16, phase-decomposed",
}
CUDA_ENGINES = {
    "pytorch-fp16": "PyTorch eager fp16, channels-last",
    "pytorch-fp16-phase": "PyTorch eager fp16, channels-last, phase-decomposed",
    "compile-fp16": "torch.compile fp16",
    "compile-fp16-autotune": "torch.compile fp16, max-autotune",
}
WARM_UP = 2


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", nargs="?", choices=[*CPU_ENGINES, *CUDA_ENGINES])
    parser.add_argument("--list", action="store_true", help="print the engines for --device")
    parser.add_argument("--device", default="cpu", help="cpu or cuda:N")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--n-res", type=int, default=4)
    parser.add_argument("--size", default="256x256", help="WIDTHxHEIGHT")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.list:
        engines = CPU_ENGINES if options.device == "cpu" else CUDA_ENGINES
        print(json.dumps([{"engine": engine, "name": name} for engine, name in engines.items()]))
        return
    if options.engine is None:
        parser.error("name an engine, or --list them")
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    # Libraries that talk on the standard output must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    version, translate = make(options)
    for _ in range(WARM_UP):
        translate()
    answer(answers, {"version": version})
    for line in sys.stdin:
        translate()
        answer(answers, {"ms": [timed(translate) for _ in range(int(line))]})


def answer(answers, message):
    print(json.dumps(message), file=answers, flush=True)


def timed(translate):
    begin = time.perf_counter()
    translate()
    return (time.perf_counter() - begin) * 1e3


def make(options):
    """The engine's version, and a function that translates one frame and has its result when it returns."""
    library, precision, *variants = options.engine.split("-")
    makers = {"pytorch": torch_engine, "compile": torch_engine, "onnxruntime": onnxruntime_engine, "openvino": openvino_engine}
    return makers[library](options, precision, variants)


def frame(options):
    import torch

    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    width, height = (int(side) for side in options.size.split("x"))
    return torch.rand(1, 3, height, width) * 2 - 1


def torch_engine(options, precision, variants):
    import torch
    from generator import generator

    x = frame(options)
    is_compiled = options.engine.startswith("compile")
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    norms = "var_mean" if is_compiled else "textbook" if precision == "fp32" else "group"
    network = generator(options.dim, options.n_res, norms, "phase" in variants).to(options.device, kind)
    x = x.to(options.device, kind)
    if precision != "fp32":
        network = network.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    on_cuda = options.device != "cpu"
    if on_cuda:
        torch.backends.cudnn.benchmark = True
    if is_compiled:
        network = torch.compile(network, mode="max-autotune" if "autotune" in variants else "default")

    def translate():
        network(x)
        if on_cuda:
            torch.cuda.synchronize(options.device)

    return f"PyTorch {torch.__version__}", translate


def onnx_file(options, phase):
    import torch
    from generator import generator

    x = frame(options)
    network = generator(options.dim, options.n_res, "textbook", phase)
    path = os.path.join(tempfile.mkdtemp(prefix="munit-peer-"), "generator.onnx")
    torch.onnx.export(network, (x,), path, opset_version=17, dynamo=False, input_names=["x"], output_names=["y"])
    return path, x.numpy()


def remove(path):
    os.remove(path)
    os.rmdir(os.path.dirname(path))


def onnxruntime_engine(options, precision, variants):
    import onnxruntime

    path, x = onnx_file(options, "phase" in variants)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    # Waiting threads leave the cores to whoever has its turn.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    remove(path)
    return f"ONNX Runtime {onnxruntime.__version__}", lambda: session.run(None, {"x": x})


def openvino_engine(options, precision, variants):
    import openvino

    path, x = onnx_file(options, "phase" in variants)
    settings = {
        "INFERENCE_NUM_THREADS": options.threads,
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    model = openvino.Core().read_model(path)
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    remove(path)
    return f"OpenVINO {openvino.__version__.split('-')[0]}", lambda: request.infer({0: x}, share_inputs=True)


if __name__ == "__main__":
    main()
