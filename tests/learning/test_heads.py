"""The classes of datasets: which head has which, and labels that count over all."""

from dataclasses import replace

import pytest

from pipeline.learning.heads import with_heads
from pipeline.videos import Video

VIDEO = Video(video_id="v", path="v.mp4", dataset="a", class_name="run", label=0, subset="train",
              sha256="0", status="ok", reason="", frames=9)  # fmt: skip


def videos(dataset, *classes):
    return [
        replace(VIDEO, video_id=f"{dataset}{n}", dataset=dataset, class_name=name, label=label)
        for n, (label, name) in enumerate(classes)
    ]


def test_classes_go_by_label_usable_or_not():
    one = videos("a", (2, "swim"), (0, "run"), (2, "swim"))
    missing = replace(one[1], video_id="x", label=1, class_name="jump", status="missing")
    assert with_heads([*one, missing], ["a"])[1] == {"a": ["run", "jump", "swim"]}


def test_labels_of_a_second_dataset_count_on_and_others_are_left_out():
    listed = [*videos("b", (1, "dive")), *videos("a", (0, "run"), (1, "jump")),
              *videos("b", (0, "bow")), *videos("c", (0, "sit"))]  # fmt: skip
    kept, heads = with_heads(listed, ["a", "b"])
    assert heads == {"a": ["run", "jump"], "b": ["bow", "dive"]}
    assert [(v.video_id, v.label) for v in kept] == [("a0", 0), ("a1", 1), ("b0", 3), ("b0", 2)]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a", "gone"], "got no video of the dataset gone, expected some"),
        (["holes"], "got label 2 of holes1, expected one below the number of classes, 2"),
        (["twice"], "got label 1 of twice2, run, expected 0, which others of that class have"),
        (["both"], "got label 0 of both1, swim, expected another one than run has"),
    ],
)
def test_what_can_not_be_heads_is_refused(names, said):
    listed = [*videos("a", (0, "run")), *videos("holes", (0, "run"), (2, "swim")),
              *videos("twice", (0, "run"), (1, "swim"), (1, "run")),
              *videos("both", (0, "run"), (0, "swim"))]  # fmt: skip
    with pytest.raises(ValueError, match=said):
        with_heads(listed, names)
