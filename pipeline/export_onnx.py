"""Write a trained network as ONNX, and check it with ONNX Runtime against torch.

Of a stream: input ``volume`` (N, C, crop, crop), output ``logits`` (N, classes). Of an ST-ResNet:
``rgb`` (N, T, 3, crop, crop) and ``flow`` (N, T, 2L, crop, crop), its logits averaged over time,
places and both heads. N is any number. Inputs are float32: codes or grey values from 0 to 255, less
``mean``, divided by ``std``. Both are in the file's metadata: in ``about``, beside the params that
the network was trained with (of an ST-ResNet, in its ``seen``). Its other entry is ``classes``.
Batch normalisation is folded into a stream's convolutions. Wants ``pip install -e ".[export]"``.
"""

import argparse
import json
import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from models import fold_bn
from pipeline.learning import joined
from pipeline.learning.loading import one_line
from pipeline.learning.weights import Weights, read_weights, stream_network
from pipeline.whole_file import whole_file

_TOLERANCE = 1e-3  # of the largest logit: what another order of sums may do


class _OwnHead(nn.Module):
    """A stream's network with the classes of its own dataset alone."""

    def __init__(self, network: nn.Module, classes: int) -> None:
        super().__init__()
        self.network, self.classes = network, classes

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to (N, classes)."""
        return self.network(volume)[:, : self.classes]


class _Prediction(nn.Module):
    """An ST-ResNet's answer on clips, as it is scored in ten crops."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, rgb: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
        """Map (N, T, 3, H, W) and (N, T, 2L, H, W) to (N, classes)."""
        return self.network.predict(rgb, flow)


def _of_stream(path: Path, kept: Weights) -> tuple[nn.Module, dict[str, tuple[int, ...]]]:
    about = kept.about
    crop, channels = about["input"]["crop"], about["channels"]
    network = stream_network(path, kept, about["network"]["name"], channels=channels, crop=crop)
    model = _OwnHead(fold_bn(network.eval()), len(kept.classes))
    return model, {"volume": (channels, crop, crop)}


def _of_joined(
    path: Path, kept: Weights, frames: int
) -> tuple[nn.Module, dict[str, tuple[int, ...]]]:
    about = kept.about
    network = joined.joined_network(path, kept)
    crop, length = about["crop"], about["seen"]["length"]
    shapes = {"rgb": (frames, 3, crop, crop), "flow": (frames, 2 * length, crop, crop)}
    return _Prediction(network), shapes


def run(weights: Path, out: Path, *, frames: int = 25) -> float:
    """Write the network of ``weights`` to ``out``.

    Parameters
    ----------
    weights : Path
        What a stage ``train`` or ``st_resnet`` wrote.
    out : Path
    frames : int
        T of an ST-ResNet's clips.

    Returns
    -------
    float
        The largest difference between ONNX Runtime's logits and torch's, as a share of the largest.

    Raises
    ------
    ValueError
        If it isn't such a file, packages are lacking, or the answers differ; nothing is written.
    """
    if frames < 1:
        raise ValueError(f"--frames: got {frames}, expected at least 1")
    onnx, onnxruntime = _packages()
    kept = read_weights(weights)
    try:
        if joined.is_joined(kept):
            model, shapes = _of_joined(weights, kept, frames)
        else:
            model, shapes = _of_stream(weights, kept)
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{weights}: can't be made a network of: {error!r}") from None
    model.eval()
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(out) as scratch, torch.inference_mode():
        _export(model, shapes, scratch)
        made = onnx.load(scratch)
        told = {"classes": json.dumps(kept.classes), "about": json.dumps(kept.about)}
        onnx.helper.set_model_props(made, told)
        onnx.save(made, scratch)
        onnx.checker.check_model(scratch)
        session = onnxruntime.InferenceSession(scratch, providers=["CPUExecutionProvider"])
        found = [_difference(session, model, shapes, count) for count in (1, 3)]
        worst = float(np.max(found))  # NaN, where there is one
        if not worst < _TOLERANCE:
            raise ValueError(
                f"{out}: ONNX Runtime's logits are {worst:.2g} of the largest off torch's, "
                f"expected below {_TOLERANCE:g}; not written"
            )
    return worst


def _packages() -> tuple:
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  (torch's exporter wants it, and says so late)
    except ImportError as error:
        raise ValueError(f'{error.name} is lacking: pip install -e ".[export]"') from None
    return onnx, onnxruntime


def _export(model: nn.Module, shapes: dict[str, tuple[int, ...]], path: Path) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    batch = torch.export.Dim("N", min=1, max=4096)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of its own parts
        torch.onnx.export(
            model, _random(shapes, 2), path, input_names=list(shapes), output_names=["logits"],
            dynamic_shapes=tuple({0: batch} for _ in shapes), dynamo=True, external_data=False,
            verbose=False,
        )  # fmt: skip


def _random(shapes: dict[str, tuple[int, ...]], count: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(count)
    return tuple(torch.randn(count, *shape, generator=generator) for shape in shapes.values())


def _difference(
    session: object, model: nn.Module, shapes: dict[str, tuple[int, ...]], count: int
) -> float:
    """Give the largest difference on random inputs, as a share of the largest logit."""
    inputs = _random(shapes, count)
    expected = model(*inputs)
    given = {name: x.numpy() for name, x in zip(shapes, inputs, strict=True)}
    found = torch.from_numpy(session.run(["logits"], given)[0])
    return float((found - expected).abs().max() / expected.abs().max())


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("weights", type=Path, help="what training wrote: data/weights/NAME.pt")
    parser.add_argument("out", type=Path, help="ONNX file to write")
    parser.add_argument("--frames", type=int, default=25,
                        help="of a clip, for an ST-ResNet (default: %(default)s)")  # fmt: skip
    args = parser.parse_args()
    try:
        worst = run(args.weights, args.out, frames=args.frames)
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"export_onnx: {one_line(error)}") from None
    size = args.out.stat().st_size / 1e6
    print(f"{args.out}: {size:.1f} MB; ONNX Runtime and torch agree to {worst:.1e} of the largest "
          "logit")  # fmt: skip


if __name__ == "__main__":
    main()
