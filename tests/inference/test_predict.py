from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from farfield import build_model, predict
from farfield.checkpoints.checkpoint import save_model
from farfield.clip_spec import ClipOptions
from farfield.curation.video_inputs import find_videos
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError
from farfield.inference.predict import PredictOptions, predict_file
from farfield.inference.prediction_schema import Prediction, RankedLabel
from farfield.inference.tables_and_subtitles import as_table
from farfield.models.insertion import BLOCKS, WithBlock
from farfield.models.network import ActionNet
from farfield.models.operating_point import OperatingPoint
from farfield.precision import Precision
from farfield.scoring.load import load_model
from farfield.scoring.score_views import score_views
from farfield.timelines import sliding_windows
from forks import run_forked, start_fork_server
from held import Held


@pytest.fixture(scope="module")
def model() -> ActionNet:
    torch.manual_seed(5)
    labels = ["bow", "get_up", "lie_down", "sit_down", "stand_up", "wave", "walk"]
    return build_model(
        "tiny", labels=labels, insert={"res3": [1]}, clip={"num_frames": 4, "crop_px": 24, "num_crops": 2}
    )


@pytest.fixture(scope="module")
def checkpoint(model: ActionNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "a.ckpt"
    save_model(model, path)
    return path


def test_predicts_as_the_equations_say(model: ActionNet, make_video: Callable[..., Path]) -> None:
    """Views cut, normalised, scored and averaged one by one, without the package's batching."""
    from farfield.data.clips import video_views

    path = make_video(60)
    clip = video_views(path, VideoRecord(str(path), ""), model.clip, num_clips=3, num_crops=2)
    model.eval()
    total = torch.zeros(7)
    with torch.no_grad():
        for view in clip.frames:
            x = (view.float() / 255 - torch.tensor(model.clip.mean)) / torch.tensor(model.clip.std)
            total += model(x.permute(3, 0, 1, 2)[None])[0].softmax(0)
    expected = sorted(zip((total / 6).tolist(), model.labels, strict=True), reverse=True)[:3]
    result = predict(path, model, top_k=3, num_clips=3, view_batch_size=4)
    assert [ranked.label for ranked in result.ranking] == [label for _, label in expected]
    assert [ranked.probability for ranked in result.ranking] == pytest.approx([p for p, _ in expected], abs=1e-5)
    assert (result.start_seconds, result.end_seconds) == pytest.approx((0, 59 / 25), abs=1e-3)


def test_probabilities_of_all_classes_add_up(model: ActionNet, make_video: Callable[..., Path]) -> None:
    result = predict(make_video(60), model, top_k=99)
    assert sum(ranked.probability for ranked in result.ranking) == pytest.approx(1, abs=1e-5)
    with pytest.raises(FarfieldError, match="top_k is 0"):
        predict(make_video(60), model, top_k=0)


def test_files_folders_and_patterns_are_found_once_and_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/2.mp4", "a/1.avi", "a/deep/3.MOV", "a/notes.txt", "b[1].mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert find_videos(["b[1].mp4", "a", "a/*.mp4"]) == ["b[1].mp4", "a/1.avi", "a/2.mp4", "a/deep/3.MOV"]
    assert find_videos(["nowhere.mp4"]) == ["nowhere.mp4"]  # fails by name when it is opened
    assert find_videos(["x*.mp4", "b[1].mp4"]) == ["x*.mp4", "b[1].mp4"]  # as well
    (tmp_path / "empty").mkdir()
    with pytest.raises(FarfieldError, match="the folder empty holds no videos"):
        find_videos(["empty"])


def test_what_a_run_writes_is_not_its_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/1.mp4", "a/out/1_labelled.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert find_videos(["a", "a/**/*.mp4"], out=tmp_path / "a/out") == ["a/1.mp4"]
    assert find_videos(["-"], listed=["a"], out="a/out") == ["a/1.mp4"]
    assert find_videos(["a/out/1_labelled.mp4"], out="a/out") == ["a/out/1_labelled.mp4"]  # asked for by name


def test_manifests_and_lists_stand_for_their_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.csv", "B.CSV"):
        (tmp_path / name).write_text("path,label\nx/1.mp4,run\n2.mp4,sit\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("3.mp4\n\n a.csv \n-\n"))
    assert find_videos(["2.mp4", "-"]) == ["2.mp4", "3.mp4", "x/1.mp4"]
    assert find_videos(["-"], listed=["4.mp4\n"]) == ["4.mp4"]
    assert find_videos(["B.CSV"]) == ["x/1.mp4", "2.mp4"]
    Path("unlabelled.csv").write_text("path\n5.mp4\n")
    assert find_videos(["unlabelled.csv"]) == ["5.mp4"]
    with pytest.raises(FarfieldError, match="none"):
        find_videos(["none.csv"])


def test_the_command_prints_a_table(
    checkpoint: Path,
    make_video: Callable[..., Path],
    run_farfield: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_farfield("predict", make_video(60), "--checkpoint", checkpoint, "--top_k", 2) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0] == f"{make_video(60)}  (0.00 s to 2.36 s)"
    assert lines[1].endswith("%")


def test_the_table_says_that_no_threshold_is_reached_and_which_class_has_none() -> None:
    def table(*marks: bool | None, any_class: bool | None = None) -> list[str]:
        ranked = [RankedLabel(name, 0.3, mark) for name, mark in zip(("bow", "run", "jump"), marks, strict=True)]
        made = Prediction("a.mp4", ranked, start_seconds=0.0, end_seconds=2.0, reaches_threshold=any_class)
        return as_table(made).splitlines()[1:]

    assert table(False, None, False) == [
        "  none of these classes reaches its threshold",
        "  bow    30.00%",
        "  run    30.00%  has no threshold",
        "  jump   30.00%",
    ]
    assert table(True, None, False) == [
        "  bow    30.00%  above threshold",
        "  run    30.00%  has no threshold",
        "  jump   30.00%",
    ]
    assert table(None, None, None) == ["  bow    30.00%", "  run    30.00%", "  jump   30.00%"]
    without = [
        "  bow    30.00%  has no threshold",
        "  run    30.00%  has no threshold",
        "  jump   30.00%  has no threshold",
    ]
    assert table(None, None, None, any_class=False) == ["  no class reaches its threshold", *without]
    assert table(None, None, None, any_class=True) == without  # a class below the best ones does


def test_a_class_below_the_shown_ones_may_reach_its_threshold(
    model: ActionNet, make_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"num_clips": 1, "num_crops": 1, "progress": False}
    assert predict(make_video(60), model, **options).reaches_threshold is None
    last = predict(make_video(60), model, top_k=7, **options).ranking[-1]
    for limit, reached in ((last.probability - 1e-3, True), (last.probability + 1e-3, False)):
        thresholds = dict.fromkeys(model.labels) | {last.label: limit}
        monkeypatch.setattr(model, "operating_point", OperatingPoint("f1", thresholds, 9))
        found = predict(make_video(60), model, top_k=1, **options)
        assert found.reaches_threshold == reached
        assert ("no class reaches its threshold" in as_table(found)) != reached
        assert "reaches_threshold" not in found.to_dict()


@pytest.mark.slow
def test_progress_counts_the_views_of_a_single_video_on_a_terminal(
    checkpoint: Path,
    make_video: Callable[..., Path],
    run_farfield: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[int, int]] = []
    options = PredictOptions(num_clips=5, num_crops=1, view_batch_size=2)
    predict_file(make_video(60), load_model(checkpoint), options, on_progress=lambda *at: seen.append(at))
    assert seen == [(0, 5), (2, 5), (4, 5), (5, 5)]
    seen.clear()
    dense = PredictOptions(hop=20, num_crops=1, view_batch_size=2)
    predict_file(make_video(60), load_model(checkpoint), dense, on_progress=lambda *at: seen.append(at))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]  # windows
    words = ("--checkpoint", checkpoint, "--num_clips", 5, "--num_crops", 1)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    one, two = [make_video(60)], [make_video(60), make_video(61)]
    for videos, format, shown in ((one, "table", True), (one, "jsonl", False), (two, "table", False)):
        assert run_farfield("predict", *videos, *words, "--format", format) == 0
        assert ("0/5" in capsys.readouterr().err) == shown
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    assert run_farfield("predict", *one, *words) == 0
    assert "0/5" not in capsys.readouterr().err


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_predicted(
    checkpoint: Path,
    make_video: Callable[..., Path],
    bad_files: dict[str, Path],
    run_farfield: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = [bad_files["empty"], make_video(60), bad_files["missing"], make_video(61)]
    assert run_farfield("predict", *files, "--checkpoint", checkpoint, "--json") == 1
    captured = capsys.readouterr()
    results = json.loads(captured.out)
    assert [result["path"] for result in results] == [str(path) for path in files]
    assert results[0]["error"] == "the file is empty"
    assert results[1]["ranking"][0]["probability"] >= results[1]["ranking"][1]["probability"]
    assert results[2]["ranking"] == []
    assert f"farfield predict: {bad_files['missing']}: there is no such file" in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.slow
@pytest.mark.parametrize("block", list(BLOCKS))
def test_half_precision_scores_nearly_the_same(block: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    clip: ClipOptions = {"num_frames": 4, "crop_px": 32}
    network = build_model("tiny", num_classes=3, insert={"res3": [1]}, block=block, clip=clip).eval()
    for each in network.modules():
        if isinstance(each, WithBlock):  # no longer the identity
            for parameter in each.inserted.parameters():
                torch.nn.init.normal_(parameter, std=0.1)
    save_model(network, tmp_path / "a.ckpt")
    views = torch.randint(256, (3, 4, 32, 32, 3), dtype=torch.uint8)
    exact = score_views(load_model(tmp_path / "a.ckpt"), views, batch_size=2, features=True)
    precisions: list[Precision] = ["bfloat16", "float16"]
    for precision in precisions:
        model = load_model(tmp_path / "a.ckpt", precision=precision)
        assert model.dtype == getattr(torch, precision)
        scored = score_views(model, views, batch_size=2, features=True)
        for found, expected in zip(scored, exact, strict=True):
            assert found.dtype == torch.float32
            assert not torch.equal(found, expected)
            assert (found - expected).norm() < 0.03 * expected.norm(), precision


def test_a_precision_that_does_not_exist_is_refused(checkpoint: Path) -> None:
    with pytest.raises(FarfieldError, match=r"precision is 'bf16'.*bfloat16"):
        load_model(checkpoint, precision="bf16")  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_command_predicts_in_bfloat16(
    checkpoint: Path,
    make_video: Callable[..., Path],
    run_farfield: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = []
    for precision in ("float32", "bfloat16"):
        words = ["predict", make_video(60), "--checkpoint", checkpoint, "--json", "--precision", precision]
        assert run_farfield(*words) == 0
        [answer] = json.loads(capsys.readouterr().out)
        found.append({each["label"]: each["probability"] for each in answer["ranking"]})
    assert found[0] != found[1]
    assert found[1] == pytest.approx(found[0], abs=0.01)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_the_command_predicts_over_a_ray_cluster(
    checkpoint: Path,
    make_video: Callable[..., Path],
    bad_files: dict[str, Path],
    run_farfield: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    videos = [make_video(60), bad_files["empty"], make_video(61)]
    found = []
    for more in ([], ["--engine", "ray", "--out", tmp_path / "out"]):
        assert run_farfield("predict", *videos, "--checkpoint", checkpoint, "--json", *more) == 1
        found.append(json.loads(capsys.readouterr().out))
    for alone, over in zip(*found, strict=True):
        assert over.get("error") == alone.get("error")
        assert [each["label"] for each in over.get("ranking", [])] == [
            each["label"] for each in alone.get("ranking", [])
        ]
    assert len((tmp_path / "out/predictions.jsonl").read_text().splitlines()) == 3


def test_dense_clips_cover_the_whole_video(
    model: ActionNet, make_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many they are, few are held: of 60 frames those of a clip and the one that comes."""
    held = Held(monkeypatch)
    result = predict(make_video(60), model, hop=5, top_k=7, features=True)
    with sliding_windows.sliding_windows(make_video(60), model.clip, hop_seconds=5 / 25, num_crops=2) as expected:
        scored = [score_views(model, window.frames, batch_size=2, features=True) for window in expected]
    assert len(scored) == 10  # starts 0, 5, ..., 40 and 41: a clip spans 19 of 60 frames
    mean = torch.cat([each.logits for each in scored]).softmax(-1).mean(0).tolist()
    assert {each.label: each.probability for each in result.ranking} == pytest.approx(
        dict(zip(model.labels, mean, strict=True)), abs=1e-5
    )
    vectors = torch.cat([each.features for each in scored if each.features is not None])
    assert result.features == pytest.approx(vectors.mean(0, keepdim=True).numpy(), abs=1e-5)
    assert (result.start_seconds, result.end_seconds) == pytest.approx((0, 60 / 25), abs=1e-3)
    assert held.most <= 20
    with pytest.raises(FarfieldError, match="hop is 0; it must be at least 1"):
        predict(make_video(60), model, hop=0)


@pytest.mark.slow
def test_the_script_is_the_command(checkpoint: Path, make_video: Callable[..., Path]) -> None:
    start_fork_server()
    script = Path(__file__).parents[2] / "scripts/infer_clip.py"
    done = run_forked([sys.executable, str(script), str(make_video(60)), "--checkpoint", str(checkpoint), "--json"])
    assert done.returncode == 0
    assert len(json.loads(done.stdout)[0]["ranking"]) == 5
