"""Attributions beside captum, torch-cam, pytorch-grad-cam and TorchRay: processor time, peak memory, agreement.

    python bench/attribution.py --json results/attribution-speed.json

Each library lives in a process of its own; their calls take turns, so that a busy machine is unfair to none, and the
figure is the median of the processor time. A library that is not installed is left out. pytorch-grad-cam imports
torchvision for its examples: where there is none, the five names that it asks for are replaced by empty ones.
Networks have random weights: their answers mean nothing, their cost and the algebra are the real ones. Score-CAM reads
a layer of 64 channels and RISE draws 64 masks (`--images`): the cost is that of the images asked, in any number.
A run that was stopped goes on where it was.
"""

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from importlib import metadata
from itertools import product
from pathlib import Path

import torch
from torch import Tensor, nn

SIDE, CLASSES, BATCH = 224, 1000, 16
FINE = {"resnet18": "layer1", "resnet50": "stem"}  # layers of 64 channels
PIXELS = ("gradient", "integrated-gradients", "occlusion")  # methods whose maps are at the image's size


class Block(nn.Module):
    """The residual block of He et al., 2016: two 3x3 convolutions, or with `deep` a bottleneck."""

    def __init__(self, inner: int, width: int, stride: int, deep: bool):
        super().__init__()
        outer = width * 4 if deep else width
        if deep:
            shapes = [(inner, width, 1, 1), (width, width, 3, stride), (width, outer, 1, 1)]
        else:
            shapes = [(inner, width, 3, stride), (width, width, 3, 1)]
        parts: list[nn.Module] = []
        for a, b, size, step in shapes:
            parts += [nn.Conv2d(a, b, size, step, size // 2, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True)]
        self.path = nn.Sequential(*parts[:-1])
        same = stride == 1 and inner == outer
        skip = (nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))
        self.skip = nn.Identity() if same else nn.Sequential(*skip)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.path(x) + self.skip(x))


class ResNet(nn.Module):
    """ResNet-18 or ResNet-50, the standard ones."""

    def __init__(self, name: str):
        super().__init__()
        deep = name == "resnet50"
        first = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.stem = nn.Sequential(first, nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1))
        inner = 64
        for stage, depth in enumerate((3, 4, 6, 3) if deep else (2, 2, 2, 2)):
            width, blocks = 64 * 2**stage, []
            for place in range(depth):
                blocks.append(Block(inner, width, 2 if stage and not place else 1, deep))
                inner = width * 4 if deep else width
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(inner, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(x)))))
        return self.fc(self.pool(x).flatten(1))


def network(name: str) -> ResNet:
    torch.manual_seed(0)
    return ResNet(name).eval()


def ours(method: str, name: str, images: int, **more) -> Callable[[Tensor], Tensor]:
    from counterscan.classifiers.torch import TorchClassifier
    from counterscan.core import Card, Target
    from counterscan.explainers.build import build_explainer

    classes = tuple(f"c{index}" for index in range(CLASSES))
    classifier = TorchClassifier(network(name), Card(name=name, shape=(3, SIDE, SIDE), classes=classes))
    settings = {
        "grad-cam": {"layer": "layer4"},
        "layer-cam": {"layer": "layer4"},
        "score-cam": {"layer": FINE[name], "fill": 0.0, "tolerance": 0.0, "batch": BATCH},
        "rise": {"masks": images, "fill": 0.0, "converged": 0.0, "batch": BATCH},
        "gradient": {},
        "integrated-gradients": {"baseline": 0.0, "steps": 16, "batch": BATCH},
        "occlusion": {"window": 56, "stride": 28, "fill": 0.0, "batch": BATCH},
    }[method]
    explainer = build_explainer(method, **settings, **more)
    # what speaks against "class 0 is to go" is its logit, which is what the others explain
    return lambda x: explainer(classifier, x, Target(((0, 0.0),))).heatmap


def captum(method: str, name: str, images: int) -> Callable[[Tensor], Tensor]:
    from captum.attr import IntegratedGradients, LayerGradCam, Occlusion, Saliency

    net = network(name)
    if method == "grad-cam":
        explainer = LayerGradCam(net, net.layer4)
        return lambda x: explainer.attribute(x, target=0, relu_attributions=True).detach()
    if method == "gradient":
        return lambda x: Saliency(net).attribute(x, target=0).amax(1, keepdim=True)
    if method == "integrated-gradients":
        settings = {"n_steps": 16, "method": "riemann_middle", "internal_batch_size": BATCH}
        return lambda x: IntegratedGradients(net).attribute(x, target=0, **settings).sum(1, keepdim=True)
    settings = {"sliding_window_shapes": (3, 56, 56), "strides": (3, 28, 28), "perturbations_per_eval": BATCH}

    def occlusion(x: Tensor) -> Tensor:
        with torch.no_grad():
            return Occlusion(net).attribute(x, target=0, **settings)[:, :1]

    return occlusion


def torchcam(method: str, name: str, images: int) -> Callable[[Tensor], Tensor]:
    from torchcam import methods

    net = network(name)
    if method == "score-cam":
        scored = methods.ScoreCAM(net, FINE[name], batch_size=BATCH)

        def score(x: Tensor) -> Tensor:
            with torch.inference_mode():
                net(x)
                return scored(class_idx=0, normalized=False)[0][:, None]

        return score
    cam = {"grad-cam": methods.GradCAM, "layer-cam": methods.LayerCAM}[method](net, "layer4")
    return lambda x: cam(0, net(x), normalized=False)[0].detach()[:, None]


def gradcam(method: str, name: str, images: int) -> Callable[[Tensor], Tensor]:
    try:
        import torchvision  # noqa: F401
    except ImportError:
        sys.modules |= torchvision_for_examples()
    import pytorch_grad_cam
    import tqdm
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    tqdm.tqdm = lambda things: things
    net = network(name)
    kinds = {"grad-cam": "GradCAM", "layer-cam": "LayerCAM", "score-cam": "ScoreCAM"}
    layer = getattr(net, FINE[name] if method == "score-cam" else "layer4")
    cam = getattr(pytorch_grad_cam, kinds[method])(net, [layer])
    raw, scale = [], cam.get_cam_image

    def keep(*given, **named):  # what it answers is scaled to [0, 1] twice; the map itself is here
        raw[:] = [scale(*given, **named)]
        return raw[0]

    cam.get_cam_image = keep

    def explain(x: Tensor) -> Tensor:
        cam(input_tensor=x, targets=[ClassifierOutputTarget(0)])
        return torch.from_numpy(raw[0])[:, None].clamp_min(0)

    return explain


def torchray(method: str, name: str, images: int) -> Callable[[Tensor], Tensor]:
    from torchray.attribution.rise import rise

    net = network(name)
    return lambda x: rise(net, x, num_masks=images, num_cells=7, batch_size=BATCH)[:, :1]


def torchvision_for_examples() -> dict[str, types.ModuleType]:
    """What pytorch-grad-cam imports and needs only for other kinds of networks, or for pictures."""
    names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional", "torchvision.ops")
    made = {one: types.ModuleType(one) for one in names}
    for word in ("Compose", "Normalize", "ToTensor"):
        setattr(made["torchvision.transforms"], word, object)
    made["torchvision.transforms.functional"].resize = made["torchvision.ops"].box_iou = None
    return made


LIBRARIES: dict[str, tuple[str, Callable, tuple[str, ...]]] = {
    "counterscan": ("counterscan", ours, ("grad-cam", "layer-cam", "score-cam", "rise", *PIXELS)),
    "counterscan, bfloat16": (
        "counterscan",
        lambda *given: ours(*given, bfloat16=True),
        ("score-cam", "rise", "occlusion"),
    ),
    "captum": ("captum", captum, ("grad-cam", *PIXELS)),
    "torch-cam": ("torchcam", torchcam, ("grad-cam", "layer-cam", "score-cam")),
    "pytorch-grad-cam": ("grad-cam", gradcam, ("grad-cam", "layer-cam", "score-cam")),
    "torchray": ("torchray", torchray, ("rise",)),
}


def work(library: str, method: str, name: str, images: int, place: str) -> None:
    """A process of one library: a line on standard input asks for a map, the answer is its processor seconds."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    x = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with contextlib.redirect_stdout(sys.stderr):
        explain = LIBRARIES[library][1](method, name, images)
    for _ in sys.stdin:
        start = time.process_time()
        with contextlib.redirect_stdout(sys.stderr):
            found = explain(x)
        seconds = time.process_time() - start
        torch.save(found.detach().float(), place)
        print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)


def compare(method: str, name: str, arguments: argparse.Namespace, folder: Path) -> list[dict]:
    """One method in all the libraries that have it, their calls in turn; the first call is not counted."""
    workers, figures, peak = {}, {}, {}
    for library, (package, _, methods) in LIBRARIES.items():
        if method in methods and version(package):
            words = ["--work", library, "--methods", method, "--networks", name, "--images", str(arguments.images)]
            workers[library] = subprocess.Popen(
                [sys.executable, __file__, *words, "--json", str(folder / library)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": str(arguments.threads)},
            )
    for turn in range(arguments.repeat + 1):
        for library, worker in workers.items():
            print("again", file=worker.stdin, flush=True)
            seconds, peak[library] = map(float, worker.stdout.readline().split())
            figures.setdefault(library, []).extend([seconds] if turn else [])
    for worker in workers.values():
        worker.communicate()
    rows = []
    for library, seconds in figures.items():
        row = {"network": name, "method": method, "library": library, "peak_mb": round(peak[library])}
        row |= {"cpu_seconds": round(statistics.median(seconds), 4), "all": [round(one, 4) for one in seconds]}
        rows.append(row | {"deviation": deviation(method, library, folder)})
        print(rows[-1], flush=True)
    return rows


def deviation(method: str, library: str, folder: Path) -> float | None:
    """How far a map is from ours at most, as a share of its largest value; None where the definitions differ."""
    from counterscan.data.fitting import resize

    if library == "counterscan" or (method in ("score-cam", "rise") and "counterscan" not in library):
        return None
    mine, theirs = torch.load(folder / "counterscan"), torch.load(folder / library)
    theirs = theirs if theirs.shape == mine.shape else resize(theirs, (SIDE, SIDE))
    return float(f"{float((mine - theirs.clamp_min(0)).abs().max() / mine.max()):.2g}")


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def main() -> None:
    everything = LIBRARIES["counterscan"][2]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=everything, choices=everything)
    parser.add_argument("--networks", nargs="+", default=list(FINE), choices=list(FINE))
    parser.add_argument("--images", type=int, default=64, help="masks of RISE")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        return work(arguments.work, *arguments.methods, *arguments.networks, arguments.images, arguments.json)
    packages = {package: version(package) for package in ("torch", *(one[0] for one in LIBRARIES.values()))}
    command = " ".join(["python", "bench/attribution.py", *sys.argv[1:]])
    facts = {"command": command, "packages": packages, "threads": arguments.threads, "rows": []}
    if arguments.json and arguments.json.exists():
        facts["rows"] = json.loads(arguments.json.read_text())["rows"]
    done = {(row["network"], row["method"]) for row in facts["rows"]}
    for name, method in product(arguments.networks, arguments.methods):
        if (name, method) not in done:
            with tempfile.TemporaryDirectory() as folder:
                facts["rows"] += compare(method, name, arguments, Path(folder))
            if arguments.json:
                arguments.json.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
