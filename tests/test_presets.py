"""Presets fit the datasets that they are for, as they stand."""

from collections import Counter
from pathlib import Path

import pytest

from pipeline import index
from pipeline.params import load
from pipeline.videos import read_videos

ROOT = Path(__file__).parents[1]
# The sample's is for clips that the pipeline renders itself.
DATASETS = sorted({*ROOT.glob("presets/*.yaml")} - {ROOT / "presets/st_resnet_sample.yaml"})


def fill(paths):
    """Make one small file for each path, no two alike."""
    for path in map(Path, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {path}")


def lay_out(dataset):
    """Lay out three classes of nine clips as the preset says that they are."""
    videos, lists = Path(dataset.videos), Path(dataset.lists)
    lists.mkdir(parents=True)
    names = [[f"{c}/v_{c}_g{i:02}_c01.avi" for i in range(1, 10)] for c in ("Dive", "Run", "Sit")]
    if dataset.format == "folders":
        fill(videos / f"{c}/clip {i}.MOV" for c in ("dive", "run", "sit") for i in range(9))
        return
    fill(videos / path for of_class in names for path in of_class)
    if dataset.format == "ucf101":
        (lists / "classInd.txt").write_text("1 Dive\n2 Run\n3 Sit\n")
        for subset, part in (("train", slice(2, 9)), ("test", slice(0, 2))):
            lines = [f"{path} {k}\n" if subset == "train" else f"{path}\n"
                     for k, of_class in enumerate(names, 1) for path in of_class[part]]  # fmt: skip
            (lists / f"{subset}list01.txt").write_text("".join(lines))
        return
    for of_class in names:
        lines = [f"{Path(path).name} {2 if i < 2 else 1}\n" for i, path in enumerate(of_class)]
        class_name = Path(of_class[0]).parent.name
        (lists / f"{class_name}_test_split1.txt").write_text("".join(lines))


@pytest.mark.parametrize("path", DATASETS, ids=lambda path: path.stem)
def test_a_preset_indexes_its_dataset_unedited(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    params = load(path)
    lay_out(params.dataset)
    index.run(Path(params.dataset.videos), Path(params.dataset.lists), Path("index"),
              params.dataset)  # fmt: skip
    rows = read_videos(Path("index/videos.csv"))
    assert {row.status for row in rows} == {"ok"}
    assert Counter(row.class_name.lower() for row in rows) == dict.fromkeys(
        ("dive", "run", "sit"), 9
    )
    count = Counter(row.subset for row in rows)
    assert count["test"] == (9 if path.stem == "own" else 6)
    if path.stem == "own":  # no step of an epoch sees less than it was asked to
        for stream in params.streams.values():
            assert count["train"] % stream.training.batch == 0


def test_the_official_presets_train_alike():
    """They differ in the dataset alone; TSN's have schedules of their own."""
    ucf101, hmdb51 = (load(ROOT / f"presets/{name}.yaml") for name in ("ucf101", "hmdb51"))
    assert (ucf101.streams, ucf101.flow) == (hmdb51.streams, hmdb51.flow)
