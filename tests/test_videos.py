from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.jobs import Done, with_result
from pipeline.videos import Video, VideosError, read_videos, video_ids, write_videos

VIDEO = Video(
    video_id="a", path="data/raw/Jump/a.avi", dataset="mine", class_name="Jump", label=0,
    subset="train", sha256="00", status="ok", reason="",
)  # fmt: skip
HEADER = "video_id,path,dataset,class_name,label,subset,sha256,status,reason,frames\n"

# Any text that UTF-8 can hold; the nastiest characters of CSV more often than by chance.
nasty = st.text(
    st.one_of(st.sampled_from(',"\n\r\t \\;\0\ufeff\u2028é漢'), st.characters(codec="utf-8")),
    max_size=12,
)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(
        st.builds(
            Video,
            video_id=nasty.filter(bool), path=nasty, dataset=nasty, class_name=nasty, reason=nasty,
            sha256=nasty, label=st.integers(0, 10**6), frames=st.integers(0, 10**6),
            subset=st.sampled_from(["train", "val", "test"]),
            status=st.sampled_from(["ok", "missing", "excluded"]),
        ),
        max_size=4, unique_by=lambda video: video.video_id,
    )
)  # fmt: skip
def test_what_is_written_is_read_back_whatever_the_names(tmp_path, rows):
    path = tmp_path / "videos.csv"
    write_videos(path, rows)
    assert read_videos(path) == rows
    assert [entry.name for entry in tmp_path.iterdir()] == ["videos.csv"]


def test_the_bytes_are_plain_csv_with_lf(tmp_path):
    path = tmp_path / "videos.csv"
    write_videos(path, [VIDEO, replace(VIDEO, video_id="b", path="x,y.avi", frames=7)])
    assert path.read_bytes() == (
        HEADER + "a,data/raw/Jump/a.avi,mine,Jump,0,train,00,ok,,0\n"
        'b,"x,y.avi",mine,Jump,0,train,00,ok,,7\n'
    ).encode("ascii")


def test_writing_leaves_other_links_to_the_old_file_alone(tmp_path):
    path, cached = tmp_path / "videos.csv", tmp_path / "cached"
    write_videos(path, [VIDEO])
    cached.hardlink_to(path)
    write_videos(path, [])
    assert (read_videos(path), read_videos(cached)) == ([], [VIDEO])


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "videos.csv"
    write_videos(path, [VIDEO])

    def broken():
        yield replace(VIDEO, video_id="b")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_videos(path, broken())
    assert read_videos(path) == [VIDEO]
    assert [entry.name for entry in tmp_path.iterdir()] == ["videos.csv"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", r"videos\.csv:1: got the columns none, expected video_id, path"),
        (HEADER.replace(",frames", ""), r":1: got the columns .*reason, expected .*frames"),
        (HEADER.replace("\n", ",more\n"), r":1: got the columns .*more, expected"),
        (HEADER.replace("path", "frames"), r":1: got the columns"),
        (HEADER + "a,b,c,d,0,train,,ok,\n", r":2: got 9 values, expected 10"),
        (HEADER + "a,b,c,d,0,dev,,ok,,0\n", r":2: got subset 'dev', expected train, val, test"),
        (HEADER + "a,b,c,d,0,test,,good,,0\n", r":2: got status 'good', expected ok, missing"),
        (HEADER + "a,b,c,d,1.0,test,,ok,,0\n", r":2: got label '1\.0', expected a whole number"),
        (HEADER + "a,b,c,d,-1,test,,ok,,0\n", r":2: got label '-1'"),
        (HEADER + "a,b,c,d,²,test,,ok,,0\n", r":2: got label '²'"),
        (HEADER + "a,b,c,d,0,test,,ok,,\n", r":2: got frames ''"),
        (HEADER + ",b,c,d,0,test,,ok,,0\n", r":2: got no video_id"),
        (HEADER + "a,b,c,d,0,test,,ok,,0\n" * 2, r":3: got video_id 'a' a second time .*line 2"),
        (HEADER + '"a\n"x,b', r":3: got .*expected CSV"),
    ],
)
def test_reading_is_strict(tmp_path, text, expected):
    path = tmp_path / "videos.csv"
    path.write_bytes(text.encode())
    with pytest.raises(VideosError, match=expected):
        read_videos(path)


def test_no_file_and_no_utf8_are_said(tmp_path):
    path = tmp_path / "videos.csv"
    with pytest.raises(VideosError, match=r"videos\.csv: no such file"):
        read_videos(path)
    path.write_bytes(HEADER.encode() + b"caf\xe9,b,c,d,0,test,,ok,,0\n")
    with pytest.raises(VideosError, match="expected CSV in UTF-8"):
        read_videos(path)


def test_columns_may_stand_in_any_order(tmp_path):
    path = tmp_path / "videos.csv"
    path.write_text(
        "frames,reason,status,sha256,subset,label,class_name,dataset,path,video_id\r\n"
        "0,,ok,00,train,0,Jump,mine,data/raw/Jump/a.avi,a\r\n"
    )
    assert read_videos(path) == [VIDEO]


def test_a_result_is_put_down_on_its_row():
    done = {"a": Done(source=Path("v"), frames=9, reason="", reused=False)}
    assert with_result(VIDEO, done) == replace(VIDEO, frames=9)
    done = {"a": Done(source=Path("v"), frames=0, reason="damaged", reused=True)}
    decoded = replace(VIDEO, frames=10)
    assert with_result(decoded, done) == replace(VIDEO, status="excluded", reason="damaged")
    lost = replace(VIDEO, status="missing", reason="no such file", frames=4)
    assert with_result(lost, {}) == lost


@pytest.mark.parametrize(
    ("paths", "stems_alone", "expected"),
    [
        (["Jump/v_Jump_g01_c01.avi"], True, ["v_Jump_g01_c01"]),
        (["Jump/a.avi", "Run/a.avi"], True, ["Jump__a", "Run__a"]),
        (["Jump/a.mp4", "Jump/a.avi", "b.avi"], False, ["Jump__a.mp4", "Jump__a.avi", "b"]),
        (["Jump/a.mp4", "jump/A.mp4"], False, ["Jump__a.mp4-", "jump__A.mp4-"]),
        (["a/b.mp4", "a__b.mp4"], False, ["a__b.mp4-", "a__b.mp4-"]),
        (["Café/été_漢字.mp4"], False, ["Café__été_漢字"]),
        (["Cafe\u0301/a.mp4"], False, ["Café__a"]),
        (["Jump/a b&c.mp4"], False, ["Jump__a_b_c-"]),
        (["Jump/a b.mp4", "Jump/a&b.mp4"], False, ["Jump__a_b-", "Jump__a_b-"]),
        ([".hidden.mp4"], False, ["_hidden-"]),
        (["x" * 300 + ".mp4"], False, ["x" * 111 + "-"]),
        (["漢" * 80 + ".mp4"], False, ["漢" * 37 + "-"]),
    ],
)
def test_ids_worked_by_hand(paths, stems_alone, expected):
    ids = video_ids(paths, stems_alone)
    for got, wanted in zip(ids, expected, strict=True):
        if wanted.endswith("-"):  # and eight hexadecimal digits of the path's hash
            assert got[:-8] == wanted and int(got[-8:], 16) >= 0
        else:
            assert got == wanted


@settings(max_examples=100, deadline=None)
@given(
    paths=st.lists(
        st.text(st.sampled_from("aAß./ \n,漢\u0301é-_\udce9") | st.characters(), min_size=1),
        unique=True,
        max_size=8,
    ),
    stems_alone=st.booleans(),
)
def test_ids_are_safe_and_unique_whatever_the_paths(paths, stems_alone):
    ids = video_ids(paths, stems_alone)
    assert len({name.casefold() for name in ids}) == len(paths)
    for name in ids:
        assert name and not name.startswith(".")
        assert len(name.encode()) <= 120
        assert all(c.isalnum() or c in "._-" for c in name)
    assert sorted(video_ids(paths[::-1], stems_alone)) == sorted(ids)
