"""Compare loading with tsn-pytorch's way, and training and testing with the network alone.

Three parts, each in interleaved rounds on the clips and streams of a run (``dvc repro``):

- loading: samples a second of one core, from stored pictures to batches, with one segment; beside
  tsn-pytorch's way, written from its public description: a JPEG file a picture, PIL, a transform
  after the other on each picture of the snippet. Its batches are floats, normalised; ours are
  codes, which the device normalises. Only ours have pipeline.memory, as in training;
- training: clips a second of each stream's real training, on clips that are loaded beside it, on
  batches that lie in memory, and of a plain loop of torch on random tensors;
- testing: views a second of each stream's real scoring, and of the network alone on inputs that lie
  ready where it computes.
"""

import argparse
import itertools
import json
import os
import random
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from common import machine
from PIL import Image, ImageOps
from torch.utils.data import DataLoader

from models import NORMALISATION, build
from pipeline import memory
from pipeline import params as params_file
from pipeline.learning import dataset, devices
from pipeline.learning.engine import Fit
from pipeline.learning.epochs import Draws
from pipeline.learning.loading import loader, loader_workers, training_batches
from pipeline.learning.modalities import NO_MOTION
from pipeline.learning.scoring import score_views
from pipeline.learning.tasks import SnippetTask
from pipeline.stream_params import channels_of
from pipeline.video import store
from pipeline.videos import read_videos

_BATCH = 32
_SKIPPED = 4  # batches or clips until processes have started and memory is warm


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, default=Path("data"), help="of a run: frames, flow")
    parser.add_argument("--streams", nargs="+", help="of params.yaml (default: all)")
    parser.add_argument("--samples", type=int, default=150, help="loaded in each round")
    parser.add_argument("--iterations", type=int, default=25, help="trained in each round")
    parser.add_argument("--clips", type=int, default=12, help="scored in each round, at least")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="where to write all this as JSON")
    args = parser.parse_args()
    params = params_file.load()
    result = {
        "machine": machine() | {"torch": torch.__version__, "device": str(devices.place().device),
                                "threads": torch.get_num_threads(), "loaders": loader_workers()},
        "engine": {"precision": params.engine.precision, "compile": params.engine.compile},
        "streams": {},
    }  # fmt: skip
    sources = {}
    for name in args.streams or params.streams:
        stream = params.streams[name]
        source = args.data / stream.source
        videos = [v for v in read_videos(source / "videos.csv") if v.status == "ok"]
        sources[name] = source, videos, stream
        result["streams"][name] = {
            "network": stream.network.name,
            "crop": stream.input.crop,
            "loading": loading(source, videos, stream, args),
        }
    memory.keep_freed()  # as the stages; only now, because the peer's processes would inherit it
    for name, clips in sources.items():
        told = result["streams"][name]
        told["training"] = training(*clips, params, args)
        told["testing"] = testing(*clips, args)
        print(f"{name}: {json.dumps(told, indent=2)}", flush=True)
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def ratio(pairs):
    """Give the median of both rates, and of their ratio in a round."""
    ours, theirs = zip(*pairs, strict=True)
    middle = statistics.median
    return middle(ours), middle(theirs), middle(a / b for a, b in pairs)


def loading(source, videos, stream, args):
    """Time one core making batches, from HDF5 or JPEG folders as they are, and the peer's way."""
    if stream.input.kind not in ("stack", "bidirectional"):
        return None  # tsn-pytorch has no such volume
    mean, std = NORMALISATION[stream.network.name]
    one = replace(stream, training=replace(stream.training, segments=1))
    clips = dataset.TrainingClips(source, videos, one, mean, seed=0)
    peer_mean = (NO_MOTION,) if clips.modality.signed else mean
    std = clips.modality.divisors(std)
    batches = -(-args.samples // _BATCH)
    with tempfile.TemporaryDirectory() as scratch:
        chosen = range(0, len(videos), -(-len(videos) // 20))
        folders = [unpack(source, videos[number], stream, Path(scratch)) for number in chosen]
        peers = Peer(folders, one, peer_mean, std)
        draws = [[(0, i, chosen[i % len(chosen)]) for i in range(first, first + _BATCH)]
                 for first in range(0, (batches + 1) * _BATCH, _BATCH)]  # fmt: skip
        cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
        os.sched_setaffinity(0, {min(cores)})  # the loading process's, too
        torch.set_num_threads(1)
        cv2.setNumThreads(1)

        assert next(training_batches(clips, draws, _BATCH))[0].shape[2:4] == peers[0, 0].shape[1:]
        theirs = DataLoader(peers, num_workers=loader_workers(), batch_sampler=draws)
        pairs = [
            (rate(training_batches(clips, draws, _BATCH), len(draws)), rate(theirs, len(draws)))
            for _ in range(args.rounds)
        ]
        cv2.setNumThreads(-1)
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)
    mine, theirs, times = ratio(pairs)
    return {"samples_per_s_of_a_core": mine, "tsn_pytorchs_way": theirs, "times_as_fast": times}


def rate(batches, count):
    """Give the samples a second of a loading process that makes so many batches."""
    for number, _ in enumerate(batches):
        if number == 0:
            started = time.perf_counter()
    return (count - 1) * _BATCH / (time.perf_counter() - started)


class Peer(torch.utils.data.Dataset):
    """Training snippets of unpacked videos, loaded as tsn-pytorch does."""

    def __init__(self, folders, stream, mean, std):
        self.folders, self.stream, self.mean, self.std = folders, stream, mean, std

    def __getitem__(self, drawn):
        return peer(*self.folders[drawn[1] % len(self.folders)], self.stream, self.mean, self.std)


def unpack(source, video, stream, out):
    """Write a stored video's JPEG rows as files; give their folder and their count."""
    names = store.FRAMES if stream.source == "frames" else store.FLOW
    folder = out / video.video_id
    folder.mkdir()
    with store.StoredVideo(source, video.video_id, names) as stored:
        for index in range(len(stored)):
            for name, jpeg in zip(names, stored.jpegs(index), strict=True):
                (folder / f"{name}_{index + 1:05d}.jpg").write_bytes(jpeg)
        return folder, len(stored), names


def peer(folder, count, names, stream, mean, std):
    """Load one training snippet as tsn-pytorch does: (C, crop, crop) float32."""
    seen = stream.input
    first = random.randrange(max(count - seen.length, 0) + 1)
    pictures = []
    for index in range(first, first + seen.length):
        for name in names:
            picture = Image.open(folder / f"{name}_{min(index, count - 1) + 1:05d}.jpg")
            pictures.append(picture.convert("RGB" if name == "frames" else "L"))
    width, height = pictures[0].size
    sides = [int(min(width, height) * share) for share in stream.training.scale_jitter]
    w, h = random.choice(sides), random.choice(sides)
    left, top = random.choice([0, (width - w) // 2, width - w]), random.choice([0, height - h])
    box, size = (left, top, left + w, top + h), (seen.crop, seen.crop)
    pictures = [picture.crop(box).resize(size, Image.BILINEAR) for picture in pictures]
    if random.random() < 0.5:
        pictures = [picture.transpose(Image.FLIP_LEFT_RIGHT) for picture in pictures]
        if len(names) == 2:
            pictures = [ImageOps.invert(p) if i % 2 == 0 else p for i, p in enumerate(pictures)]
    stacked = np.concatenate([np.atleast_3d(np.array(picture)) for picture in pictures], axis=2)
    tensor = torch.from_numpy(stacked).permute(2, 0, 1).contiguous().float()
    for channel, (m, s) in zip(tensor, zip(itertools.cycle(mean), std), strict=False):
        channel.sub_(m).div_(s)
    return tensor


def network_of(stream, classes):
    """Make a stream's network; its speed doesn't depend on its weights."""
    return build(
        stream.network.name, classes=classes, channels=channels_of(stream),
        crop=stream.input.crop, dropout=stream.network.dropout, weights="none",
    )  # fmt: skip


def training(source, videos, stream, params, args):
    """Time the real training on clips loaded beside it, and on batches in memory; and torch's."""
    mean, std = NORMALISATION[stream.network.name]
    clips = dataset.TrainingClips(source, videos, stream, mean, seed=0)
    std = clips.modality.divisors(std)
    labels, batch = [video.label for video in videos], stream.training.batch
    classes = max(labels) + 1
    steps = args.iterations + _SKIPPED
    values = replace(stream.training, epochs=1, epoch_batches=steps, keep="last", patience=0)

    def loaded():
        return training_batches(clips, Draws(
            labels, batch=batch, size=batch * steps, epochs=1, by=values.sampling, seed=0
        ), batch)  # fmt: skip

    ready = [[part.clone() for part in one] for one in itertools.islice(loaded(), 4)]
    rounds = []
    for _ in range(args.rounds):
        rates = []
        for batches in (loaded(), itertools.islice(itertools.cycle(ready), steps)):
            marks = []
            task = SnippetTask(network_of(stream, classes), values, std, (classes,))
            fit = Fit(task, lambda _, b=batches, m=marks: after(b, m), None, steps=steps,
                      clips=batch * steps, lr=1e-4, params=values, engine=params.engine, seed=0,
                      label="training")  # fmt: skip
            fit.run()
            rates.append(batch * args.iterations / (clock() - marks[0]))
        rounds.append((*rates, plain(stream, classes, args.iterations)))
    on_loaded, on_ready, share = ratio([(a, b) for a, b, _ in rounds])
    _, plainly, beside = ratio([(b, c) for _, b, c in rounds])
    return {
        "clips_per_s": on_loaded, "on_batches_in_memory": on_ready, "share": share,
        "plain_torch_on_random_tensors": plainly, "in_memory_times_plain": beside,
    }  # fmt: skip


def after(batches, marks, skipped=_SKIPPED):
    """Yield batches, and note when the first ones are done."""
    for number, batch in enumerate(batches):
        if number == skipped:
            marks.append(clock())
        yield batch


def clock():
    """Tell the time when the device has done what it was asked."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def plain(stream, classes, iterations):
    """Train on one batch of random tensors with nothing but torch; give clips a second."""
    values, device = stream.training, devices.place().device
    network = network_of(stream, classes).to(device).train()
    shape = (values.batch * values.segments, channels_of(stream), stream.input.crop,
             stream.input.crop)  # fmt: skip
    x, y = torch.randn(shape, device=device), torch.randint(classes, shape[:1], device=device)
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4)
    for iteration in range(iterations + _SKIPPED):
        if iteration == _SKIPPED:
            started = clock()
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(x), y).backward()
        optimiser.step()
    return values.batch * iterations / (clock() - started)


def testing(source, videos, stream, args):
    """Time the real scoring with clips loaded beside it, and the network alone."""
    mean, std = NORMALISATION[stream.network.name]
    seen = stream.testing
    clips = dataset.TestingClips(source, videos, stream, mean, snippets=seen.frames,
                                 crops=seen.crops, crop_ratio=seen.crop_ratio)  # fmt: skip
    std = clips.modality.divisors(std)
    # Loaders read ahead: what they have read before the clock starts must not be most of it.
    skipped = _SKIPPED + 2 * loader_workers()
    count = max(args.clips, 2 * skipped)
    order = random.Random(0).choices(range(len(videos)), k=count + skipped)
    views = len(clips[order[0]][0]) * seen.crops
    pairs = []
    for _ in range(args.rounds):
        marks, network = [], network_of(stream, len({video.label for video in videos}))
        read = after(loader(clips, batch_size=None, sampler=order), marks, skipped)
        for _ in score_views(network, read, crop=stream.input.crop, crops=seen.crops,
                             signed=clips.modality.signed, std=std):  # fmt: skip
            pass
        scored = count * views / (clock() - marks[0])
        pairs.append((scored, alone(stream, network, count * views)))
    scored, network_alone, share = ratio(pairs)
    return {"views_per_clip": views, "views_per_s": scored, "network_alone": network_alone,
            "share": share}  # fmt: skip


def alone(stream, network, views, batch=64):
    """Give a scoring network's views a second on inputs that lie ready."""
    shape = (batch, channels_of(stream), stream.input.crop, stream.input.crop)
    x = torch.randn(shape, device=devices.place().device)
    x = x.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        network(x)
        started, rounds = clock(), -(-views // batch)
        for _ in range(rounds):
            network(x)
        return rounds * batch / (clock() - started)


if __name__ == "__main__":
    main()
