"""dvc.yaml tells DVC everything that bears on a stage's outs."""

import ast
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from torch.distributed.run import get_args_parser

ROOT = Path(__file__).parents[1]
STAGES = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text())["stages"]


@cache
def imports(file: Path) -> list[ast.AST]:
    """Find a file's import statements, wherever they stand."""
    nodes = ast.walk(ast.parse((ROOT / file).read_text()))
    return [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]


def reached(module: str, seen: set[str]) -> set[str]:
    """Follow a module's imports to all files of this project."""
    at = Path(*module.split("."))
    for file in (at.with_suffix(".py"), at / "__init__.py"):
        if not (ROOT / file).is_file() or str(file) in seen:
            continue
        seen.add(str(file))
        if "." in module:
            reached(module.rpartition(".")[0], seen)
        package = module if file.name == "__init__.py" else module.rpartition(".")[0]
        for node in imports(file):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                origin = ".".join([*(parents if node.level else []), *filter(None, [node.module])])
                names = [origin, *(f"{origin}.{alias.name}" for alias in node.names)]
            for name in names:
                reached(name, seen)
    return seen


def plain(stage: dict) -> dict:
    """Give a stage's body, whether it is made once or for each of a map."""
    return stage.get("do", stage)


def paths(entries: list) -> list[str]:
    """List deps or outs, which may carry options."""
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


def test_imports_are_followed_wherever_they_stand():
    """Relative ones, and ones inside functions."""
    seen = reached("pipeline.flow", set())
    assert {f"pipeline/video/tvl1/{name}.py" for name in ("settings", "kernels", "cuda")} <= seen


@pytest.mark.parametrize("name", STAGES)
def test_deps_cover_all_code_that_a_stage_imports(name):
    body = plain(STAGES[name])
    module = re.search(r"-m (\S+)", body["cmd"])[1]
    code = {path for path in paths(body["deps"]) if path.endswith(".py")}
    assert code == reached(module, set())


@pytest.mark.parametrize("name", STAGES)
def test_every_path_of_a_command_is_a_dep_or_an_out(name):
    body = plain(STAGES[name])
    known = [*paths(body["deps"]), *paths(body.get("outs", [])), *paths(body.get("metrics", []))]
    words = shlex.split(body["cmd"])[3:]
    for word in words:
        if "/" in word or word.startswith("${dataset"):
            assert any(path == word or path.startswith(f"{word}/") for path in known), word
    assert any(word in known for word in words) or name == "report"


def test_a_stream_that_reads_frames_does_not_depend_on_flow():
    for name in ("train", "score"):
        data = [p for p in plain(STAGES[name])["deps"] if p.startswith("data/")]
        of_videos = [p for p in data if not p.startswith(("data/weights", "data/pretrained"))]
        assert of_videos == ["data/${item.source}"]


def test_views_are_scored_without_training_again():
    declared = plain(STAGES["train"])["params"]
    assert "streams.${key}" not in declared
    assert not any("testing" in entry for entry in declared)
    assert "lr" not in plain(STAGES["score"])["params"]


@pytest.mark.parametrize("name", ["train", "st_resnet_stage1", "st_resnet_stage2"])
def test_torchrun_leaves_a_training_its_arguments(name):
    """What engine.processes starts would take an option that begins like one of its own."""
    module, *words = shlex.split(plain(STAGES[name])["cmd"])[2:]
    parsed = get_args_parser().parse_args(["--standalone", "--module", module, *words])
    assert (parsed.training_script, parsed.training_script_args) == (module, words)


def test_the_second_phase_alone_bears_on_nothing_of_the_first():
    first, second = (plain(STAGES[f"st_resnet_stage{n}"]) for n in (1, 2))
    assert not any("stage2" in p or "testing" in p for p in (*first["params"], *first["deps"]))
    assert "st_resnet.${key}" not in first["params"] + second["params"]
    assert first["outs"][0] in second["deps"]


@pytest.mark.parametrize(("name", "ignored"), [
    ("scores/.spatial.h5.123.h5", True), ("curves/.joint.stage1.csv.123.csv", True),
    ("scores/spatial.h5", False), ("curves/spatial.csv", False),
])  # fmt: skip
def test_what_a_killed_stage_had_half_written_is_no_input_of_another(name, ignored):
    dvc = Path(sys.executable).with_name("dvc")
    done = subprocess.run([dvc, "check-ignore", f"data/{name}"], cwd=ROOT, capture_output=True)
    assert done.returncode == (0 if ignored else 1), done.stderr.decode()
