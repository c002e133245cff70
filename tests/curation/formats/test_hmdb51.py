from __future__ import annotations

from pathlib import Path

import pytest

from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.formats.hmdb51 import film_of, read_hmdb51
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError

FLY = """\
Fly_Day_#7_fly_f_cm_np1_ri_med_0.avi 1 \n\
-_A&B_(x!)_[c];+~@d_fly_u_nm_np2_fr_goo_1.avi 1 \n\
Kites_fly_h_cm_np1_le_bad_2.avi 2 \n\
unused_fly_h_cm_np1_le_bad_2.avi 0 \n"""
FLY_AWAY = "Fly_Day_#7_fly_away_f_cm_np1_ri_med_0.avi 1 \nother.avi 1 \n"


@pytest.fixture
def source(tmp_path: Path) -> AnnotationSource:
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits/fly_test_split2.txt").write_text(FLY)
    (tmp_path / "splits/fly_away_test_split2.txt").write_text(FLY_AWAY)
    (tmp_path / "splits/fly_test_split1.txt").write_text("no.avi 1 \n")
    for name in ("fly/Fly_Day_#7_fly_f_cm_np1_ri_med_0.avi", "all/-_A&B_(x!)_[c];+~@d_fly_u_nm_np2_fr_goo_1.avi"):
        (tmp_path / "hmdb" / name).parent.mkdir(parents=True)
        (tmp_path / "hmdb" / name).touch()
    return AnnotationSource(tmp_path / "hmdb", tmp_path / "splits", split=2, subset="train")


def test_training_and_test_videos_of_a_split(source: AnnotationSource) -> None:
    assert list(read_hmdb51(source)) == [
        VideoRecord("fly_away/Fly_Day_#7_fly_away_f_cm_np1_ri_med_0.avi", "fly_away", group="Fly_Day_#7"),
        VideoRecord("fly_away/other.avi", "fly_away"),
        VideoRecord("fly/Fly_Day_#7_fly_f_cm_np1_ri_med_0.avi", "fly", group="Fly_Day_#7"),
        VideoRecord("all/-_A&B_(x!)_[c];+~@d_fly_u_nm_np2_fr_goo_1.avi", "fly", group="-_A&B_(x!)_[c];+~@d"),
    ]
    source.subset = "test"
    assert list(read_hmdb51(source)) == [VideoRecord("fly/Kites_fly_h_cm_np1_le_bad_2.avi", "fly", group="Kites")]


def test_the_film_precedes_the_last_mention_of_the_class() -> None:
    assert film_of("they_fly_high_fly_f_cm_np1_ri_med_0.avi", "fly") == "they_fly_high"


@pytest.mark.parametrize(
    ("split", "subset", "message"),
    [
        (None, "train", "split is None; HMDB51 has the splits 1, 2 and 3"),
        (4, "train", "split is 4; HMDB51 has"),
        (1, None, "subset is None; it must be train or test"),
        (1, "val", "subset is val; it must be train or test"),
        (3, "train", r"there is no file \*_test_split3\.txt in .*splits\. Give the folder"),
    ],
)
def test_missing_options(source: AnnotationSource, split: int | None, subset: str | None, message: str) -> None:
    source.split, source.subset = split, subset
    with pytest.raises(FarfieldError, match=message):
        list(read_hmdb51(source))


@pytest.mark.parametrize("line", ["a.avi", "a.avi 3 ", "a.avi train"])
def test_malformed_lines(source: AnnotationSource, line: str) -> None:
    (source.annotations / "fly_test_split2.txt").write_text(f"b.avi 1 \n{line}\n")
    with pytest.raises(FarfieldError, match=r"fly_test_split2\.txt, line 2: 'a\.avi.*' must be `NAME\.avi number`"):
        list(read_hmdb51(source))
