from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from farfield.curation.subset import Selection, choose, write_subset
from farfield.data.manifest import read_manifest, write_manifest
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError

CLASSES = ["archery", "bowling", "swimming backstroke", "swimming breast stroke", "yoga"]


def rows(videos: int = 7, classes: list[str] = CLASSES) -> list[VideoRecord]:
    return [VideoRecord(f"{label[:3]}/{label}_{i}.mp4", label) for i in range(videos) for label in classes]


def pick(records: list[VideoRecord], **selection) -> list[str]:
    chosen = choose(records, Selection(**selection), labels=lambda r: r.labels, name=lambda r: r.path)
    return [record.path for record in chosen]


def test_choosing_all_keeps_all_rows_in_order() -> None:
    assert pick(rows()) == [record.path for record in rows()]


def test_classes_patterns_and_numbers() -> None:
    assert {path.split("/")[0] for path in pick(rows(), classes=("yoga", "archery"))} == {"yog", "arc"}
    assert len(pick(rows(), pattern="SWIMMING*")) == 14
    assert len(pick(rows(), pattern="swimming*", videos_per_class=2)) == 4
    few = pick(rows(), num_classes=2, videos_per_class=3)
    assert len(few) == 6
    assert len({path.split("/")[1].split("_")[0] for path in few}) == 2
    assert len(pick(rows(), classes=("yoga",), videos_per_class=99)) == 7


def test_adding_videos_or_classes_keeps_other_choices() -> None:
    fewer = pick(rows(classes=CLASSES[:3]), videos_per_class=3)
    more = pick(rows(), videos_per_class=3)
    assert set(fewer) < set(more)
    assert set(pick(rows(), videos_per_class=2)) < set(more)
    assert set(pick(rows(), num_classes=2)) < set(pick(rows(), num_classes=3))
    with_new = pick(rows(videos=8), videos_per_class=3)
    assert len(set(with_new) & set(more)) >= 15 - 5  # a new video takes at most one place in its class
    backwards = pick(list(reversed(rows())), videos_per_class=3)
    assert set(backwards) == set(more)
    assert set(pick(rows(), videos_per_class=3, seed=1)) != set(more)


def test_videos_are_chosen_uniformly() -> None:
    counts = dict.fromkeys([record.path for record in rows()], 0)
    for seed in range(700):
        for path in pick(rows(), videos_per_class=2, seed=seed):
            counts[path] += 1
    assert sum(counts.values()) == 700 * 10
    assert min(counts.values()) > 150  # 200 expected, standard deviation 12
    assert max(counts.values()) < 250


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"classes": ("yogha",)}, "there is no class 'yogha'.*Did you mean 'yoga'"),
        ({"pattern": "*skiing*"}, r"no class matches '\*skiing\*'"),
        ({"num_classes": 6}, "num_classes is 6; it must be at most 5, the number of classes to choose from"),
        ({"num_classes": 0}, "num_classes is 0; it must be at least 1"),
        ({"videos_per_class": -1}, "videos_per_class is -1"),
        ({"classes": ()}, "classes is empty"),
    ],
)
def test_impossible_selections_are_refused(selection: dict, message: str) -> None:
    with pytest.raises(FarfieldError, match=message):
        pick(rows(), **selection)


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """A manifest of files, of which one of each class is not there."""
    folder = tmp_path / "videos"
    folder.mkdir()
    records = []
    for record in rows(videos=4):
        name = Path(record.path).name
        if not name.endswith("_0.mp4"):
            (folder / name).touch()
        records.append(VideoRecord(f"videos/{name}", record.label, num_frames=30, fps=25.0))
    write_manifest(tmp_path / "all.csv", records)
    return tmp_path


def test_missing_videos_are_left_out_and_recorded(collection: Path) -> None:
    made = write_subset(collection / "all.csv", collection / "few" / "some.csv", pattern="swim*")
    assert made.labels == ["swimming backstroke", "swimming breast stroke"]
    assert (made.videos, len(made.missing)) == (6, 2)
    assert all(path.endswith("_0.mp4") for path in made.missing)
    manifest = read_manifest(made.path)
    assert all(manifest.path(i).is_file() for i in range(len(manifest)))
    assert manifest[0].num_frames == 30
    assert manifest.content_hash() == made.hash
    about = manifest.provenance()
    assert about == {"manifest": str(made.path), "hash": made.hash, "videos": 6, "classes": 2, "missing": 2}
    record = json.loads((collection / "few" / "some.subset.json").read_text())
    assert record["selection"]["pattern"] == "swim*"
    assert record["missing_videos"] == made.missing
    lines = made.path.read_text().splitlines()
    made.path.write_text("\n".join(lines[:-1]) + "\n")  # a record of other content says nothing
    assert read_manifest(made.path).provenance()["missing"] is None


def test_a_subset_of_kinetics_csv(collection: Path) -> None:
    source = collection / "train.csv"
    with source.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["label", "youtube_id", "time_start", "time_end", "split"])
        for i in range(6):
            writer.writerow(["yoga" if i % 2 else "archery", f"abcdefghij{i}", 10 * i, 10 * i + 10, "train"])
    made = write_subset(source, collection / "download.csv", videos_per_class=2)
    with made.path.open(newline="") as file:
        chosen = list(csv.DictReader(file))
    assert [row["label"] for row in chosen].count("yoga") == 2
    assert set(chosen[0]) == {"label", "youtube_id", "time_start", "time_end", "split"}
    assert made.hash is None
    for row in chosen[1:]:
        start = int(row["time_start"])
        (collection / "videos" / f"{row['youtube_id']}_{start:06d}_{start + 10:06d}.mp4").touch()
    again = write_subset(source, collection / "k.csv", videos_per_class=2, root=collection / "videos")
    assert again.videos == 3  # what was downloaded is what is chosen
    assert [Path(path).name[:11] for path in again.missing] == [chosen[0]["youtube_id"]]


def test_other_files_are_not_replaced(collection: Path) -> None:
    header = "label,youtube_id,time_start,time_end,split\n"
    kinetics, other = collection / "k_train.csv", collection / "k_val.csv"
    kinetics.write_text(header + "yoga,abcdefghij1,0,10,train\nyoga,abcdefghij2,0,10,train\n")
    other.write_text(header + "yoga,abcdefghij3,0,10,val\n")
    names = collection / "classes.txt"
    names.write_text("yoga\n")
    for source, out, message in (
        (kinetics, other, r"k_val\.csv exists and is not an earlier subset of .*k_train\.csv\. Choose another name"),
        (kinetics, names, r"classes\.txt exists and is not an earlier subset"),
        (collection / "all.csv", names, r"classes\.txt exists and is not a manifest: its first line is 'yoga'"),
    ):
        before = out.read_bytes()
        with pytest.raises(FarfieldError, match=message):
            write_subset(source, out, class_file=names)
        assert out.read_bytes() == before
    (collection / "long.json").write_text("[" + "1, " * 100_000 + "1]")
    with pytest.raises(FarfieldError, match=r"long\.json exists and is not an earlier subset"):
        write_subset(kinetics, collection / "long.json")
    (collection / "few.csv").touch()
    for number in (2, 1):  # a subset may be written again
        assert write_subset(kinetics, collection / "few.csv", videos_per_class=number).videos == number
        assert write_subset(collection / "all.csv", collection / "some.csv", videos_per_class=number + 1).videos > 0


def test_the_hash_is_that_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    write_manifest(tmp_path / "all.csv", [VideoRecord("a.mp4", "run", 1 / 3, 2 / 3)])
    (tmp_path / "all.csv").write_text("path,label,start_seconds,end_seconds\na.mp4,run,0.333333333333333314,0.7\n")
    made = write_subset(tmp_path / "all.csv", tmp_path / "some.csv")
    assert made.hash == read_manifest(made.path).content_hash()
    assert read_manifest(made.path).provenance()["missing"] == 0


def test_errors_write_nothing(collection: Path) -> None:
    for source, out, arguments, message in (
        ("none.csv", "o.csv", {}, "there is no file"),
        ("all.csv", "all.csv", {}, "is both the source and the output file"),
        ("all.csv", "o.csv", {"root": collection / "elsewhere"}, r"no chosen video exists \(20 chosen\)"),
    ):
        with pytest.raises(FarfieldError, match=message):
            write_subset(collection / source, collection / out, **arguments)
    assert not (collection / "o.csv").exists()
    assert not list(collection.glob("*.partial"))


@pytest.mark.slow
def test_the_command_and_its_provenance_in_a_checkpoint(
    figures: Path, tmp_path: Path, run_farfield: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "data",
        "subset",
        figures / "train.csv",
        tmp_path / "some.csv",
        "--num_classes",
        3,
        "--videos_per_class",
        1,
    ]
    assert run_farfield(*words, "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["videos"], len(made["classes"]), made["missing"]) == (3, 3, [])
    fit = ["fit", f"--run_dir={tmp_path / 'run'}", "--model.backbone=tiny", f"--data.train={tmp_path / 'some.csv'}"]
    small = ["--model.clip.crop_px=24", "--model.clip.num_frames=4", "--data.batch_size=3", "--data.num_workers=0"]
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.max_epochs=1"]
    assert run_farfield(*fit, *small, *quiet) == 0
    content = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    kept = content["farfield"]["data"]["train"]
    assert (kept["hash"], kept["videos"], kept["missing"]) == (made["hash"], 3, 0)
    assert run_farfield("data", "subset", figures / "train.csv", tmp_path / "x.csv", "--class_file", "kinetics400") == 2
    assert "there is no class 'abseiling'" in capsys.readouterr().err


def test_a_row_of_wrong_length_is_refused_with_its_line(collection: Path) -> None:
    head = "label,youtube_id,time_start,time_end\nyoga,abcdefghijk,0,10\n"
    for row in ("yoga,abcdefghijl,0,10,train,more", "yoga,abcdefghijl"):
        (collection / "k.csv").write_text(f"{head}{row}\n")
        with pytest.raises(FarfieldError, match=r"k\.csv, line 3: the row has more or fewer values than the header"):
            write_subset(collection / "k.csv", collection / "o.csv")
    assert not (collection / "o.csv").exists()
    with pytest.raises(FarfieldError, match=r"videos is a folder\. Give a file"):
        write_subset(collection / "all.csv", collection / "videos")


def test_labels_that_are_not_chosen_are_removed_and_rows_without_a_label_stay(tmp_path: Path) -> None:
    rows = [("a.mp4", "a"), ("ab.mp4", "a|b"), ("none.mp4", ""), ("bc.mp4", "b|c")]
    for name, _ in rows:
        (tmp_path / name).touch()
    write_manifest(tmp_path / "all.csv", [VideoRecord(name, label) for name, label in rows])
    made = write_subset(tmp_path / "all.csv", tmp_path / "b.csv", classes=["b"])
    assert made.labels == ["b"]
    assert [(row.path, row.label) for row in read_manifest(made.path)] == [
        ("ab.mp4", "b"),
        ("none.mp4", ""),
        ("bc.mp4", "b"),
    ]
    with pytest.raises(FarfieldError, match="num_classes is 4; it must be at most 3, the number of classes"):
        write_subset(tmp_path / "all.csv", tmp_path / "c.csv", num_classes=4)
