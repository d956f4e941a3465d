"""check: refuses what would be found hours later, and names it by its key."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.check import main

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("key", "sample"), [("videos", True), ("lists", False)])
def test_folders_that_are_not_there_are_named_by_their_key(tmp_path, monkeypatch, key, sample):
    tree = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())
    tree["sample"] = tree["sample"] if sample else {}
    tree["dataset"] |= {"videos": str(tmp_path), "lists": str(tmp_path)}
    tree["dataset"][key] = str(tmp_path / "gone")
    with (tmp_path / "params.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump(tree, file)
    monkeypatch.setattr("sys.argv", ["check", str(tmp_path / "params.yaml")])
    with pytest.raises(SystemExit, match=rf"check: .*: dataset\.{key}: got .*gone, which is not"):
        main()
    (tmp_path / "gone").mkdir()
    main()
    monkeypatch.setattr("sys.argv", ["check", str(ROOT / "params.yaml")])
    monkeypatch.chdir(tmp_path)
    main()  # the sample is yet to be rendered


def test_weights_that_are_not_there_are_named_before_any_work(tmp_path, monkeypatch):
    tree = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())
    tree["streams"]["warped"]["network"] |= {"name": "resnet18", "weights": "gone.pth"}
    with (tmp_path / "params.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump(tree, file)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["check", "params.yaml"])
    with pytest.raises(
        SystemExit, match=r"streams\.warped\.network\.weights: gone\.pth: no such weights file"
    ):
        main()
    (tmp_path / "gone.pth").write_bytes(b"weights")
    main()
    queued = tmp_path / ".dvc/tmp/exps/one"
    queued.mkdir(parents=True)
    monkeypatch.chdir(queued)
    monkeypatch.setattr("sys.argv", ["check", "../../../../params.yaml"])
    main()
    (tmp_path / "gone.pth").unlink()
    with pytest.raises(SystemExit, match=r"params\.yaml: streams\.warped\.network\.weights"):
        main()


def test_crops_that_are_larger_than_the_frames_are_told(tmp_path, monkeypatch, capsys):
    tree = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())
    tree["streams"]["spatial"]["input"]["crop"] = tree["decode"]["short_side"]
    tree["streams"]["temporal"]["input"]["crop"] = tree["decode"]["short_side"] + 1
    with (tmp_path / "params.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump(tree, file)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["check", "params.yaml"])
    main()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("check: streams.temporal.input.crop: ") and line.endswith("enlarged")
