"""Every command that reads videos reads folders of numbered pictures, with the manifest's frame rate."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import number_of, numbered_frame, write_pictures
from farfield import build_model, explain, predict
from farfield.checkpoints.checkpoint import save_model
from farfield.clip_spec import ClipSpec
from farfield.curation.folder_scan import Reason, SkippedFiles, scan_folder
from farfield.curation.index import index_videos
from farfield.curation.prepare import prepare
from farfield.curation.verify import verify
from farfield.data.augmentation import Augmentation
from farfield.data.datasets import EvaluationViews, TrainingClips
from farfield.data.manifest import Manifest, read_manifest, write_manifest
from farfield.data.samplers import SampleKey
from farfield.errors import FarfieldError, VideoError
from farfield.models.network import ActionNet
from farfield.video.decoders import open_video

FPS = 30000 / 1001


@pytest.fixture
def tree(tmp_path: Path, make_video: Callable[..., Path]) -> Path:
    """Two folders of pictures and a video file, of the classes jump and run."""
    root = tmp_path / "videos"
    write_pictures(root / "jump/a.1", 40)
    write_pictures(root / "run/b", 41, template="{}.png", first=0)
    (root / "run/b/Thumbs.db").touch()
    shutil.copy(make_video(40, fps=20), root / "run/c.mp4")
    return root


@pytest.fixture
def manifest(tree: Path, tmp_path: Path) -> Manifest:
    index_videos(tree, tmp_path / "m.csv", fps=FPS, num_workers=1, progress=False)
    return read_manifest(tmp_path / "m.csv")


@pytest.fixture(scope="module")
def model() -> ActionNet:
    return build_model("tiny", labels=["jump", "run"], insert="nl1", clip={"num_frames": 4, "crop_px": 24})


def test_a_folder_of_pictures_is_indexed_as_one_video(
    tree: Path, tmp_path: Path, run_farfield: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_farfield("data", "index", tree, tmp_path / "m.csv", "--fps=29.97", "--num_workers=1") == 0
    assert "3 videos of 2 classes" in capsys.readouterr().out
    a, b, c = read_manifest(tmp_path / "m.csv")
    assert [(each.path, each.label) for each in (a, b, c)] == [
        ("videos/jump/a.1", "jump"),
        ("videos/run/b", "run"),
        ("videos/run/c.mp4", "run"),
    ]
    assert (a.num_frames, a.fps, a.width, a.height, a.duration_seconds) == (40, 29.97, 96, 48, 1.335)
    assert (b.num_frames, b.fps) == (41, 29.97)
    assert (c.num_frames, c.fps) == (40, 20)


def test_folders_without_a_frame_rate_are_counted_and_the_option_named(tree: Path, tmp_path: Path) -> None:
    made = index_videos(tree, tmp_path / "m.csv", num_workers=1, progress=False)
    assert [record.path for record in made.records] == ["run/c.mp4"]
    assert made.skipped.counts == {Reason.NEEDS_FPS: 2, Reason.EMPTY_CLASS: 1}
    (tree / "run/c.mp4").unlink()
    with pytest.raises(FarfieldError, match=r"2 folders of numbered pictures without a frame rate \(give --fps"):
        index_videos(tree, tmp_path / "m.csv")
    with pytest.raises(FarfieldError, match="fps is 0; it must be a positive number"):
        index_videos(tree, tmp_path / "m.csv", fps=0)


def test_index_names_folders_that_are_not_one_sequence(tree: Path, tmp_path: Path) -> None:
    (tree / "run/b/7.png").unlink()
    Image.fromarray(numbered_frame(3, width=100)).save(tree / "jump/a.1/img_00030.jpg")
    made = index_videos(tree, tmp_path / "m.csv", fps=25, num_workers=1, progress=False)
    assert [record.path for record in made.records] == ["run/c.mp4"]
    assert made.failures == [
        (
            str(tree / "jump/a.1"),
            "img_00030.jpg has 100 x 48 pixels, but img_00001.jpg has 96 x 48; give all pictures one size",
        ),
        (str(tree / "run/b"), "picture 7 is missing between 6.png and 8.png"),
    ]


def test_only_folders_that_hold_pictures_alone_are_videos(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    write_pictures(tmp_path / "frames", 2)
    (tmp_path / "frames/.cache").mkdir()
    write_pictures(tmp_path / "beside_a_video", 2)
    shutil.copy(make_video(40), tmp_path / "beside_a_video/a.mp4")
    write_pictures(tmp_path / "above", 2)
    write_pictures(tmp_path / "above/below", 2, template="{}.webp")
    write_pictures(tmp_path / "one", 1)
    (tmp_path / "animations").mkdir()
    still = Image.fromarray(numbered_frame(0))
    for number in range(2):
        more = [Image.fromarray(numbered_frame(i)) for i in range(1, 4)]
        still.save(tmp_path / f"animations/{number}.webp", save_all=True, append_images=more)
    skipped = SkippedFiles()
    found = scan_folder(tmp_path, skipped, frame_folders=True)
    assert [path.relative_to(tmp_path).as_posix() for path in found] == [
        "above/below",
        "animations/0.webp",
        "animations/1.webp",
        "beside_a_video/a.mp4",
        "frames",
    ]
    assert skipped.endings == {".jpg": 5}


def test_clips_show_the_manifests_times(manifest: Manifest) -> None:
    spec = ClipSpec(num_frames=4, frame_stride=3, crop_px=48, short_side_px=48, target_fps=None)
    rows = Manifest([replace(row, start_seconds=1.0, end_seconds=1.3) for row in manifest], root=manifest.root)
    views = EvaluationViews(rows, ["jump", "run"], spec, num_clips=1, num_crops=2)[[0, 1]]
    assert views.failures == []
    for video in views.clips:
        whole = np.concatenate([video[0], video[1]], axis=2)  # the two crops side by side
        assert all(30 <= number_of(frame) < 39 for frame in whole)  # of [1.0, 1.3) s
    batch = TrainingClips(manifest, ["jump", "run"], spec, Augmentation(), seed=0)[[SampleKey(0, 1), SampleKey(0, 2)]]
    assert (len(batch.clips), batch.failures) == (2, [])


@pytest.mark.slow
def test_verify_decodes_every_picture(manifest: Manifest, tmp_path: Path) -> None:
    report = verify([tmp_path / "m.csv"], tmp_path / "report", num_workers=1, progress=False)
    assert (report.videos, report.undecodable, report.same_file) == (3, [], [])
    kept = list(read_manifest(tmp_path / "report/m.csv"))
    assert [(row.num_frames, row.fps) for row in kept[:2]] == [(40, round(FPS, 8)), (41, round(FPS, 8))]
    path = manifest.path(1) / "17.png"
    path.write_bytes(path.read_bytes()[:-30])
    shutil.copytree(manifest.path(0), manifest.root / "videos/jump/copy")
    write_manifest(tmp_path / "m.csv", [*manifest, replace(manifest[0], path="videos/jump/copy")])
    report = verify([tmp_path / "m.csv"], tmp_path / "report", num_workers=1, decoder="decord", progress=False)
    assert [(Path(path).name, reason.split(":")[0]) for path, reason in report.undecodable] == [
        ("b", "17.png cannot be read")
    ]
    assert report.same_file == [[str(manifest.path(0)), str(manifest.root / "videos/jump/copy")]]


def test_prepare_packs_folders_into_videos(manifest: Manifest, tmp_path: Path) -> None:
    made = prepare(tmp_path / "m.csv", tmp_path / "store", num_workers=1, progress=False)
    assert made.failures == []
    store = read_manifest(tmp_path / "store/manifest.csv")
    assert made.source_bytes == sum(
        path.stat().st_size for path in (tmp_path / "videos").rglob("*.*") if path.is_file()
    )
    for row, count in ((0, 40), (1, 41)):
        with open_video(store.path(row)) as packed, open_video(manifest.path(row), fps=FPS) as folder:
            np.testing.assert_allclose(packed.times, folder.times, atol=1e-3)
            frames, expected = packed.frames(np.arange(count)), folder.frames(np.arange(count))
        assert [number_of(frame) for frame in frames] == list(range(count))
        assert np.abs(frames.astype(int) - expected).mean() < 2
    assert prepare(tmp_path / "m.csv", tmp_path / "store", num_workers=1, progress=False).already_there == 3
    write_manifest(tmp_path / "m.csv", [replace(row, fps=10) for row in manifest])  # only the folders change by it
    assert prepare(tmp_path / "m.csv", tmp_path / "store", num_workers=1, progress=False).already_there == 1


def test_prepare_names_folders_without_frame_rate(manifest: Manifest, tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.csv", [replace(row, fps=None) for row in manifest])
    made = prepare(tmp_path / "m.csv", tmp_path / "store", num_workers=1, progress=False)
    assert len(made.records) == 1
    assert all(
        "frame rate of this folder of pictures is unknown; give it as fps, or in" in reason
        for _, reason in made.failures
    )


@pytest.mark.slow
def test_predict_reads_a_folder(
    tree: Path, tmp_path: Path, model: ActionNet, run_farfield: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    made = predict(tree / "jump/a.1", model, fps=8, progress=False)
    assert made.duration_seconds == 5
    with pytest.raises(VideoError, match="frame rate of this folder of pictures is unknown; give it as fps"):
        predict(tree / "jump/a.1", model, progress=False)
    with pytest.raises(FarfieldError, match="fps is -1; it must be a positive number"):
        predict(tree / "jump/a.1", model, fps=-1, progress=False)
    save_model(model, tmp_path / "a.ckpt")
    words = ["predict", tree / "jump/a.1", tree / "run", f"--checkpoint={tmp_path / 'a.ckpt'}", "--json"]
    assert run_farfield(*words, "--fps=8", f"--out={tmp_path / 'out'}", "--write=mp4") == 0
    found = json.loads(capsys.readouterr().out)
    assert [(Path(each["path"]).name, each["duration_seconds"]) for each in found] == [
        ("a.1", 5),
        ("b", 41 / 8),
        ("c.mp4", 2),
    ]
    with open_video(tmp_path / "out/a_labelled.mp4") as copy:
        np.testing.assert_allclose(copy.times, np.arange(40) / 8, atol=1e-3)
    assert run_farfield("predict", tree / "jump", f"--checkpoint={tmp_path / 'a.ckpt'}") == 2
    assert "1 folder of numbered pictures without a frame rate (give --fps" in capsys.readouterr().err


def test_explain_reads_a_folder(tree: Path, model: ActionNet) -> None:
    found = explain(tree / "run/b", model, fps=10, num_clips=1, num_crops=1, progress=False)
    assert found.seconds.max() <= 4


@pytest.mark.slow
def test_a_network_learns_from_folders(manifest: Manifest, tmp_path: Path, run_farfield: Callable[..., int]) -> None:
    arguments = [
        "--config=figures_tiny_nl2",
        f"--run_dir={tmp_path / 'run'}",
        "--model.clip={crop_px: 24, num_frames: 4}",
        f"--data.train={tmp_path / 'm.csv'}",
        f"--data.val={tmp_path / 'm.csv'}",
        "--data.batch_size=3",
        "--data.num_workers=0",
        "--data.memory_gb=0.01",
        "--trainer.max_epochs=1",
        "--trainer.enable_progress_bar=false",
        "--report.every_n_epochs=0",
    ]
    assert run_farfield("fit", *arguments) == 0
    assert not (tmp_path / "run/skipped_videos.csv").exists()
    best = next((tmp_path / "run").rglob("*.ckpt"))
    words = ["test", f"--checkpoint={best}", f"--data.manifest={tmp_path / 'm.csv'}", "--data.num_workers=0"]
    assert run_farfield(*words, f"--out={tmp_path / 'scored'}") == 0


def test_index_says_with_its_exit_status_that_folders_need_a_frame_rate(
    tree: Path, tmp_path: Path, run_farfield: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["data", "index", tree, tmp_path / "m.csv", "--num_workers=1"]
    assert run_farfield(*command) == 1
    assert "left out: 2 folders of numbered pictures without a frame rate (give --fps" in capsys.readouterr().err
    assert run_farfield(*command, "--fps=25") == 0


@pytest.mark.slow
@pytest.mark.parametrize("source", ["folder", "manifest"])
def test_verify_and_prepare_take_the_frame_rate(
    tree: Path, tmp_path: Path, run_farfield: Callable[..., int], capsys: pytest.CaptureFixture[str], source: str
) -> None:
    given = tree
    if source == "manifest":
        given = tmp_path / "m.csv"
        given.write_text("path,label,fps\nvideos/jump/a.1,jump,\nvideos/run/b,run,10\nvideos/run/c.mp4,run,\n")
    common = ["--fps", 5, "--num_workers", 1]
    run_farfield("data", "verify", given, "--out", tmp_path / "verified", "--sample", 0, *common)
    assert "3 videos" in (said := capsys.readouterr()).out
    assert "0 cannot be decoded" in said.out
    assert run_farfield("data", "prepare", given, tmp_path / "store", *common) == 0
    b = 41 / (10 if source == "manifest" else 5)
    expected = pytest.approx([8, b, 2], abs=0.01)
    assert [row.duration_seconds for row in read_manifest(tmp_path / "store/manifest.csv")] == expected
    name = "m.csv" if source == "manifest" else "videos.csv"
    assert [row.duration_seconds for row in read_manifest(tmp_path / "verified" / name)] == expected
    assert run_farfield("data", "verify", given, "--out", tmp_path / "v", "--fps", 0) == 2
    assert run_farfield("data", "prepare", given, tmp_path / "s", "--fps", 0) == 2
    assert capsys.readouterr().err.count("fps is 0; it must be a positive number of frames per second") == 2
