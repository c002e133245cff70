"""`farfield predict` on many videos: formats, and a folder of answers that a second run goes on with."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pyarrow import parquet
from safetensors.numpy import load_file

from farfield import build_model
from farfield.checkpoints.checkpoint import load_network, save_model
from farfield.data.manifest import read_manifest
from farfield.data.video_record import VideoRecord
from farfield.errors import VideoError
from farfield.inference import predict_videos, results_folder
from farfield.inference.labelled_video import labelled, with_timeline, write_labelled_video
from farfield.inference.prediction_schema import Prediction, RankedLabel
from farfield.inference.results_folder import open_results
from farfield.inference.tables_and_subtitles import as_csv, as_srt, as_vtt
from farfield.timelines.segments import Segment
from farfield.video.decoders import open_video
from video.encoding import encode

Run = Callable[..., int]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("checkpoint") / "a.ckpt"
    save_model(build_model("tiny", labels=["jump", "run", "wave"], clip={"num_frames": 4, "crop_px": 24}), path)
    return path


@pytest.fixture
def folder(make_video: Callable[..., Path], bad_files: dict[str, Path], tmp_path: Path) -> Path:
    """Four videos, two of them of the same name, and a file that is none."""
    for name, frames in (("a.mp4", 60), ("b.mp4", 61), ("deep/a.mp4", 47), ("deep/c.mp4", 40)):
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(make_video(frames), tmp_path / "videos" / name)
    shutil.copy(bad_files["text"], tmp_path / "videos/bad.mp4")
    return tmp_path / "videos"


def lines_of(out: Path) -> dict[str, dict]:
    content = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    return {entry["path"]: entry for entry in content}


@pytest.mark.slow
def test_a_second_run_goes_on(
    checkpoint: Path, folder: Path, tmp_path: Path, run_farfield: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["predict", folder, "--checkpoint", checkpoint, "--out", tmp_path / "out", "--num_clips", 2]
    asked: list[str] = []
    predict_file = predict_videos.predict_file

    def watched(path: str, *rest: object, **more: object) -> Prediction:
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append(Path(path).name)
        return predict_file(path, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(predict_videos, "predict_file", watched)
    assert run_farfield(*command) == 130
    assert asked == ["a.mp4", "b.mp4", "bad.mp4"]
    with (tmp_path / "out/predictions.jsonl").open("a") as journal:
        journal.write('{"path": "cut off by a cra')

    asked.clear()
    monkeypatch.setattr(
        predict_videos,
        "predict_file",
        lambda path, *r, **m: asked.append(Path(path).name) or predict_file(path, *r, **m),
    )
    assert run_farfield(*command) == 1
    assert asked == ["bad.mp4", "a.mp4", "c.mp4"]  # the failure is tried again
    entries = lines_of(tmp_path / "out")
    assert {Path(path).name: entry["error"] is not None for path, entry in entries.items()} == {
        "a.mp4": False,
        "b.mp4": False,
        "bad.mp4": True,
        "c.mp4": False,
    }

    asked.clear()
    (folder / "b.mp4").write_bytes((folder / "a.mp4").read_bytes())  # another video of the same name
    assert run_farfield(*command) == 1
    assert asked == ["b.mp4", "bad.mp4"]
    again = lines_of(tmp_path / "out")
    assert again[str(folder / "b.mp4")]["ranking"] == again[str(folder / "a.mp4")]["ranking"]


def test_a_folder_of_other_answers_is_refused(
    checkpoint: Path, folder: Path, tmp_path: Path, run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", folder / "a.mp4", "--checkpoint", checkpoint, "--out"]
    assert run_farfield(*command, tmp_path / "out") == 0
    before = (tmp_path / "out/predictions.jsonl").read_bytes()
    assert run_farfield(*command, tmp_path / "out", "--top_k", 1) == 2
    assert "holds predictions made with other settings: top_k was 5, now 1. Give the same" in capsys.readouterr().err
    assert run_farfield(*command, tmp_path / "out", "--timeline", "--threshold", 0.5) == 2
    assert (
        "settings: min_seconds was None, now 0.0; smooth_seconds was None, now 0.0; threshold was None, now 0.5; "
        in (error := capsys.readouterr().err)
    )
    assert "timeline was False, now True" in error
    assert (tmp_path / "out/predictions.jsonl").read_bytes() == before
    assert run_farfield(*command, folder) == 2
    assert "holds files other than predictions. Give a new or empty folder" in capsys.readouterr().err
    assert run_farfield(*command, folder / "a.mp4") == 2
    assert "which is a file. Give a folder" in capsys.readouterr().err
    assert run_farfield(*command, folder / "a.mp4/x") == 2
    assert "a.mp4/x, which cannot be written: Not a directory" in capsys.readouterr().err


def test_what_changes_no_answer_may_change(
    checkpoint: Path,
    folder: Path,
    tmp_path: Path,
    run_farfield: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = ["predict", folder / "a.mp4", "--out", tmp_path / "out", "--checkpoint"]
    assert run_farfield(*command, checkpoint, "--top_k", 2, "--timeline", "--device", "tpu9") == 2
    assert run_farfield(*command, checkpoint) == 0  # nothing was answered yet
    monkeypatch.setattr(predict_videos, "predict_file", None)
    monkeypatch.chdir(checkpoint.parent)
    assert run_farfield(*command, checkpoint.name, "--view_batch_size", 3) == 0


def test_one_run_at_a_time(
    checkpoint: Path, folder: Path, tmp_path: Path, run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_results(tmp_path / "out", {"windows": None}, []):
        assert run_farfield("predict", folder / "a.mp4", "--checkpoint", checkpoint, "--out", tmp_path / "out") == 2
    assert f"another run is writing to {tmp_path / 'out'}. Wait for it" in capsys.readouterr().err


RANKING = [RankedLabel("run", 0.75), RankedLabel("jump", 0.25)]


def test_a_prediction_is_on_the_disk_before_the_next_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a power failure costs one video at most."""
    synced: list[int] = []
    fsync = os.fsync

    def watched(file: int) -> None:
        fsync(file)
        synced.append(os.fstat(file).st_ino)

    monkeypatch.setattr(os, "fsync", watched)
    with open_results(tmp_path, {"windows": {}}, []) as results:
        for number, path in enumerate(("a.mp4", "b.mp4"), start=1):
            results.add(Prediction(path, RANKING))
            assert synced.count((tmp_path / results_folder.JOURNAL).stat().st_ino) == number


def test_a_file_with_corrections_is_not_taken_for_another_videos(
    make_video: Callable[..., Path], tmp_path: Path
) -> None:
    """A damaged video is predicted anew in each run; its .eaf file is kept, and never given to another video."""
    for number in (1, 2, 3):
        (tmp_path / f"{number}").mkdir()
        shutil.copy(make_video(60), tmp_path / f"{number}/x.mp4")
    path, out = str(tmp_path / "1/x.mp4"), tmp_path / "out"
    cut = Prediction(path, RANKING, segments=[Segment(0.0, 2.0, "run", 0.75, 0.75)], error="it is cut off")
    whole = replace(cut, path=str(tmp_path / "2/x.mp4"), error=None)

    def run(*predictions: Prediction) -> list[str]:
        with open_results(out, {"windows": {}}, ["eaf"]) as results:
            for prediction in predictions:
                results.add(prediction)
            results.finish([VideoRecord(each.path, "") for each in predictions], ["jump", "run"])
        return sorted(path.name for path in (out / "eaf").iterdir())

    assert run(cut) == ["x.eaf"]
    assert run(cut) == ["x.eaf"]
    assert run(whole) == ["x.eaf", "x_2.eaf"]
    assert [name in (out / "eaf/x_2.eaf").read_text() for name in ("1/x.mp4", "2/x.mp4")] == [False, True]
    third = replace(whole, path=str(tmp_path / "3/x.mp4"))  # the damaged video is no longer in the journal
    assert run(whole, third) == ["x.eaf", "x_2.eaf", "x_3.eaf"]
    assert run(replace(cut, error=None)) == ["x.eaf", "x_2.eaf", "x_3.eaf"]  # repaired: it has its own file again
    assert lines_of(out)[path]["name"] == "x"


def test_nothing_stays_of_an_answer_that_is_no_more(tmp_path: Path) -> None:
    features = {"features": np.ones((1, 3)), "feature_seconds": np.array([[0.0, 2.0]])}
    segments = [Segment(0.0, 2.0, "run", 0.75, 0.75)]
    both = [VideoRecord("a.mp4", ""), VideoRecord("b.mp4", "")]
    with open_results(tmp_path, {"windows": {}}, ["srt", "safetensors"]) as results_folder:
        for path in ("a.mp4", "b.mp4"):
            results_folder.add(Prediction(path, RANKING, segments=segments, **features))
        results_folder.finish(both)
        assert (tmp_path / "a.srt").is_file()
        results_folder.add(Prediction("a.mp4", [], error="the video is cut off"))
        assert {path.name for path in tmp_path.rglob("[ab].*")} == {"b.srt", "b.safetensors"}
        assert len((tmp_path / "predictions.jsonl").read_text().splitlines()) == 3
        results_folder.finish(both)
        assert len(load_file(tmp_path / "features.safetensors")["features"]) == 1
    assert list(lines_of(tmp_path)) == ["a.mp4", "b.mp4"]
    assert len((tmp_path / "predictions.jsonl").read_text().splitlines()) == 2
    line = lines_of(tmp_path)["b.mp4"] | {"file": [1, 2]}
    (tmp_path / "predictions.jsonl").write_text(f"{json.dumps(line)}\n{json.dumps(line | {'error': 'cut off'})}\n")
    with open_results(tmp_path, {"windows": {}}, []) as results_folder:  # stopped before it was finished
        assert lines_of(tmp_path) == {}


@pytest.mark.slow
def test_what_cannot_be_written_is_told_beside_the_answer(
    checkpoint: Path,
    folder: Path,
    tmp_path: Path,
    run_farfield: Run,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A copy that cannot be made, and a name as long as file systems allow."""
    long = (folder / "a.mp4").rename(folder / f"{'é' * 125}.mp4")
    command = ["predict", long, folder / "b.mp4", "--checkpoint", checkpoint, "--out", tmp_path / "out", "--timeline"]
    command += ["--write", "srt,mp4", "--format", "jsonl"]

    def fail(prediction: Prediction, path: Path, **_: object) -> None:
        raise (
            VideoError(path, "frame 3 is damaged")
            if "b" in Path(prediction.path).stem
            else PermissionError(13, "denied")
        )

    with monkeypatch.context() as patch:
        patch.setattr(results_folder, "write_labelled_video", fail)
        assert run_farfield(*command) == 1
    for answer in (json.loads(line) for line in capsys.readouterr().out.splitlines()):
        assert answer["ranking"]
        assert answer["segments"]
        assert answer["error"] in (
            "its labelled copy could not be written: frame 3 is damaged",
            "not all of its files could be written: denied",
        )
    assert (tmp_path / "out/b.srt").is_file()
    assert run_farfield(*command) == 0
    assert all(entry["error"] is None for entry in lines_of(tmp_path / "out").values())
    assert (tmp_path / "out" / f"{'é' * 100}_labelled.mp4").is_file()


@pytest.mark.slow
def test_files_asked_for_later_are_made_and_other_weights_are_refused(
    checkpoint: Path, folder: Path, tmp_path: Path, run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    out, network = tmp_path / "out", tmp_path / "a.ckpt"
    network.write_bytes(checkpoint.read_bytes())
    command = ["predict", folder / "a.mp4", folder / "deep/c.mp4", "--checkpoint", network, "--out", out, "--timeline"]
    assert run_farfield(*command, "--write", "srt") == 0
    (out / "c.srt").unlink()
    before = lines_of(out)
    assert run_farfield(*command, "--write", "srt,vtt") == 0
    assert {path.name for path in out.glob("*.*t")} == {"a.srt", "a.vtt", "c.srt", "c.vtt"}
    assert lines_of(out) == before

    other = load_network(checkpoint)
    other.head.fc.bias.data += 1  # trained on
    save_model(other, network)
    assert run_farfield(*command) == 2
    assert "holds predictions made with other settings" in capsys.readouterr().err


@pytest.mark.slow
def test_two_spellings_of_one_path_have_answers_of_their_own(
    checkpoint: Path,
    folder: Path,
    run_farfield: Run,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    words = ["predict", "a.mp4", "./a.mp4", "--checkpoint", checkpoint, "--json", "--num_workers", 1]
    assert run_farfield(*words) == 0
    assert [answer["path"] for answer in json.loads(capsys.readouterr().out)] == ["a.mp4", "./a.mp4"]


@pytest.mark.slow
def test_all_that_can_be_written(checkpoint: Path, folder: Path, tmp_path: Path, run_farfield: Run) -> None:
    out = tmp_path / "out"
    command = ["predict", folder, "--checkpoint", checkpoint, "--out", out, "--timeline", "--hop_seconds", 0.4]
    command += ["--write", "csv,srt,vtt,mp4,safetensors,parquet"]
    assert run_farfield(*command) == 1
    names = {path.name for path in out.iterdir()}
    per_video = {f"{name}{end}" for name in ("a", "b", "a_2", "c") for end in (".srt", ".vtt", "_labelled.mp4")}
    whole = {"features", "features.parquet", "features.safetensors", "predictions.csv", "predictions.jsonl"}
    assert names == per_video | whole | {"settings.json", ".lock"}
    entries = lines_of(out)
    rows = list(csv.DictReader((out / "predictions.csv").open()))
    assert sum(row["error"] != "" for row in rows) == 1
    first = [row for row in rows if row["path"] == str(folder / "a.mp4")]
    assert [float(row["start_seconds"]) for row in first] == [
        segment["start_seconds"] for segment in entries[str(folder / "a.mp4")]["segments"]
    ]

    kept = load_file(out / "features.safetensors")
    table = parquet.read_table(out / "features.parquet").to_pydict()
    channels = load_network(checkpoint).head.fc.in_features
    assert kept["features"].shape == (len(table["path"]), channels)
    np.testing.assert_array_equal(kept["features"], np.array(table["features"], np.float32))
    np.testing.assert_array_equal(kept["seconds"][:, 0], table["start_seconds"])
    logits = load_network(checkpoint).head.fc(torch.from_numpy(kept["features"]))
    of_a = torch.tensor([path == str(folder / "a.mp4") for path in table["path"]])
    ranking = {each["label"]: each["probability"] for each in entries[str(folder / "a.mp4")]["ranking"]}
    mean = logits[of_a].softmax(-1).mean(0)  # windows overlap alike, but for the ends
    assert [ranking[label] for label in ("jump", "run", "wave")] == pytest.approx(mean.tolist(), abs=0.01)


@pytest.mark.slow
def test_labelled_videos_show_every_frame_above_the_labels(
    checkpoint: Path, figures: Path, tmp_path: Path, run_farfield: Run
) -> None:
    source = read_manifest(figures / "test.csv").path(0)
    for extra in ([], ["--timeline"]):
        out = tmp_path / f"out{len(extra)}"
        assert run_farfield("predict", source, "--checkpoint", checkpoint, "--out", out, "--write", "mp4", *extra) == 0
        with open_video(source) as original, open_video(out / f"{source.stem}_labelled.mp4") as labelled:
            assert len(labelled.times) == len(original.times)
            np.testing.assert_allclose(labelled.times, original.times, atol=1e-3)
            before, after = original.frames(np.array([20]))[0], labelled.frames(np.array([20]))[0]
        factor = after.shape[1] // before.shape[1]
        assert after.shape[1] >= 320
        picture = after[: before.shape[0] * factor : factor, ::factor].astype(int)
        assert np.abs(picture - before).mean() < 6
        assert after[before.shape[0] * factor :].max() > 200  # text


def test_a_labelled_copy_shows_frames_when_the_video_does(tmp_path: Path) -> None:
    times = [0, 0.04, 0.08, 2.12, 2.13, 3.0]
    path = encode(tmp_path / "paused.mp4", num_frames=6, times=times, b_frames=None)
    write_labelled_video(Prediction(str(path), RANKING), tmp_path / "copy.mp4")
    with open_video(tmp_path / "copy.mp4") as copy:
        np.testing.assert_allclose(copy.times, times, atol=1e-3)
    cut = Prediction(
        str(path), RANKING, end_seconds=2.12, segments=[Segment(0.0, 2.12, "run", 0.75, 0.75)], error="cut off"
    )
    write_labelled_video(cut, tmp_path / "copy.mp4")  # to the frame before the one that could not be read
    with open_video(tmp_path / "copy.mp4") as copy:
        assert len(copy.times) == 3


def test_labels_of_any_alphabet_keep_their_place() -> None:
    frame = np.zeros((20, 400, 3), np.uint8)

    def panel(label: str) -> np.ndarray:
        return next(labelled([frame], [RankedLabel(label, 0.25)]))

    assert not np.array_equal(panel("бег"), panel("жар"))  # Pillow's own font has one box for all of these
    np.testing.assert_array_equal(panel("two\nlines\tof it"), panel("two lines of it"))
    long = panel("a label as long as a sentence, of which the end does not matter to anyone who looks")
    np.testing.assert_array_equal(long[:, 350:], panel("a")[:, 350:])  # the probability
    assert not np.array_equal(long[:, 200:340], panel("a")[:, 200:340])
    segment = Segment(0.0, 1.0, "two\nlines", 0.5, 0.5)
    [shown] = with_timeline([(0.5, frame)], [segment], 1.0)
    [expected] = with_timeline([(0.5, frame)], [replace(segment, label="two lines")], 1.0)
    np.testing.assert_array_equal(shown, expected)


@pytest.mark.slow
def test_workers_find_the_same(
    checkpoint: Path, folder: Path, run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", folder, "--checkpoint", checkpoint, "--format", "json", "--num_clips", 2]
    assert run_farfield(*command) == 1
    here = json.loads(capsys.readouterr().out)
    assert run_farfield(*command, "--num_workers", 1) == 1
    there = json.loads(capsys.readouterr().out)
    assert [each["path"] for each in here] == [each["path"] for each in there]
    assert [each.get("error") for each in here] == [each.get("error") for each in there]
    for mine, theirs in zip(here, there, strict=True):
        probabilities = [[each["probability"] for each in answer.get("ranking", [])] for answer in (mine, theirs)]
        assert probabilities[0] == pytest.approx(probabilities[1], abs=1e-5)


@pytest.mark.parametrize("options", [["--json"], ["--timeline", "--format", "srt"]])
def test_an_empty_list_has_no_answers(
    options: list[str],
    checkpoint: Path,
    run_farfield: Run,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert run_farfield("predict", "-", "--checkpoint", checkpoint, *options) == 0
    assert capsys.readouterr().out.strip() in ("[]", "")


def test_lines_come_as_they_are_done(
    checkpoint: Path, folder: Path, run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_farfield("predict", folder, "--checkpoint", checkpoint, "--format", "jsonl", "--top_k", 1) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(line.get("ranking", [])) for line in lines] == [1, 1, 0, 1, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "srt"], "format is srt, but subtitles need a timeline. Add --timeline"),
        (["--format", "xml"], "format is 'xml'. Known: table, json"),
        (["--write", "csv"], "but --out is missing. Give --out FOLDER"),
        (
            ["--write", "cvs", "--out", "x"],
            "'cvs' is not a kind of file to write. Known: csv, srt, vtt, mp4, safetensors, parquet, labelstudio,",
        ),
        (
            ["--timeline", "--hop", "3"],
            "hop cannot be combined with a timeline. Leave hop out. To set the distance between a timeline's windows, "
            "give hop_seconds.",
        ),
        (["--min_seconds", "2"], "--min_seconds only applies with --timeline. Add --timeline"),
        (["--timeline", "--threshold", "2"], "threshold is 2.0; it must be a probability"),
        (["--device", "tpu9"], "Choose auto, cpu or cuda"),
        (["--num_workers", "-1"], "num_workers is -1; it must be at least 0."),
        (["--view_batch_size", "0"], "view_batch_size is 0; it must be at least 1"),
        (["--timeline", "--hop_seconds", "-1"], "hop_seconds is -1.0; it must be positive"),
        (["--timeline", "--top_k", "0"], "top_k is 0; it must be at least 1"),
    ],
)
def test_mistakes_show_before_a_video_is_opened(
    options: list[str],
    message: str,
    checkpoint: Path,
    folder: Path,
    run_farfield: Run,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder.parent)
    assert run_farfield("predict", folder / "a.mp4", "--checkpoint", checkpoint, *options) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


SEGMENTS = [
    Segment(0.0, 3599.9996, "a <b> & c", 0.5, 0.5),
    Segment(3600.0, 7261.5, "two\nlines --> here", 0.991, 0.991),
]


def test_subtitles() -> None:
    answer = Prediction("x.mp4", [RankedLabel("a", 1.0)], segments=SEGMENTS)
    assert as_srt(answer) == (
        "1\n00:00:00,000 --> 01:00:00,000\na <b> & c (50%)\n\n"
        "2\n01:00:00,000 --> 02:01:01,500\ntwo lines -> here (99%)\n"
    )
    assert as_vtt(answer) == (
        "WEBVTT\n\n00:00:00.000 --> 01:00:00.000\na &lt;b&gt; &amp; c (50%)\n\n"
        "01:00:00.000 --> 02:01:01.500\ntwo lines -&gt; here (99%)\n"
    )


def test_csv_is_one_table() -> None:
    good = Prediction(
        "x,1.mp4", [RankedLabel('say "a"', 0.75), RankedLabel("b", 0.25)], start_seconds=0.0, end_seconds=2.5
    )
    bad = Prediction("y.mp4", [], error="empty", requested_start_seconds=3.0, requested_end_seconds=4.5)
    rows = list(csv.reader(io.StringIO(as_csv([good, bad], timeline=False))))
    requested = ["requested_start_seconds", "requested_end_seconds"]
    assert rows == [
        ["path", "rank", "label", "probability", "start_seconds", "end_seconds", "error", *requested],
        ["x,1.mp4", "1", 'say "a"', "0.75", "0.0", "2.5", "", "", ""],
        ["x,1.mp4", "2", "b", "0.25", "0.0", "2.5", "", "", ""],
        ["y.mp4", "", "", "", "", "", "empty", "3.0", "4.5"],
    ]


@pytest.mark.slow
def test_live_prints_what_is_seen_as_it_is_seen(
    checkpoint: Path,
    make_video: Callable[..., Path],
    run_farfield: Run,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of a file, which is a stream that comes at once: its last window."""
    command = ["predict", "--live", "--checkpoint", checkpoint]
    assert run_farfield(*command, make_video(60), "--format", "jsonl", "--top_k", 2) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) >= 1
    assert [len(line["ranking"]) for line in lines] == [2] * len(lines)
    assert lines[-1]["end_seconds"] <= 60 / 25 + 0.01
    assert run_farfield(*command, make_video(60), "--json", "--top_k", 2) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]).keys() == lines[-1].keys()
    assert run_farfield(*command, "tcp://127.0.0.1:9") == 1
    assert "tcp://127.0.0.1:9: Connection refused" in capsys.readouterr().err
    for words, message in (
        (["a.mp4", "a.mp4"], "two cameras have the name 'a.mp4'; names must differ."),
        (["a.mp4", "--format", "json"], "format is 'json', but --live prints a table or jsonl only."),
        (["a.mp4", "--threshold", 0.5], "with --live, --threshold only applies to alarms. Add --alarms FILE"),
        (["a.mp4", "--clips", "x"], "with --live, --clips only applies to alarms."),
        (["a.mp4", "--reconnect", "never", "--max_reconnect_seconds", 0.5], "it must be at least reconnect_seconds"),
        (["a.mp4", "--num_clips", 3], "Leave out --num_clips."),
        (["a.mp4", "--engine", "ray"], "Leave out --engine."),
        (["a.mp4", "--top_k", 0], "top_k is 0; it must be at least 1."),
        ([make_video(60), "--window_seconds", -1], "window_seconds is -1.0; it must be positive and finite."),
    ):
        assert run_farfield(*command, *words) == 2
        assert message in capsys.readouterr().err
