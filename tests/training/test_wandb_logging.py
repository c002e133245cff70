"""Weights & Biases, with the real client, offline."""

from __future__ import annotations

import json
import shlex
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from wandb.proto.wandb_internal_pb2 import Record

import farfield
from farfield.training.wandb_logging import WandbSettings, has_wandb_account, make_wandb_logger
from training.test_fit import arguments


def records(path: Path) -> Iterator[Record]:
    """Read all records that an offline run has written.

    The file is a log in LevelDB's format, after a header of 7 bytes: blocks of 32 KiB, in them pieces of records with
    7 bytes in front: checksum, length, and whether it is a whole record (1), its first, middle or last piece (2, 3, 4).
    """
    data, place, piece = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        if left < 7 or kind == 0:
            place += left
            continue
        if place + 7 + length > len(data):
            return  # being written
        piece += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield Record.FromString(piece)
            piece = b""


def finished_records(path: Path) -> list[Record]:
    """Read the records of a finished run; the service writes the last ones shortly after it reports the end."""
    for _ in range(100):
        found = list(records(path))
        if any(record.HasField("exit") for record in found):
            return found
        time.sleep(0.1)
    raise AssertionError(f"{path} has no exit record")


def read_record(path: Path) -> tuple[dict, dict]:
    """Return the last logged value of each name, and the config, of an offline run."""
    logged: dict = {}
    config: dict = {}
    for record in finished_records(path):
        for item in record.history.item:
            logged[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
        for item in record.run.config.update:
            config[item.key] = json.loads(item.value_json)
    return logged, config


@pytest.mark.slow
@pytest.mark.dependency
def test_run_is_logged_offline_without_an_account(
    figures: Path,
    tmp_path: Path,
    run_farfield: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no_netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert (
        run_farfield(*arguments(figures, tmp_path / "run", "--model.insert={res3: [1]}", "--report.every_n_epochs=1"))
        == 0
    )
    assert "To upload the run later: wandb sync" in capfd.readouterr().err
    (folder,) = (tmp_path / "run/wandb").glob("offline-run-*")
    (record,) = folder.glob("*.wandb")
    logged, config = read_record(record)
    for name in ("train/loss_step", "val/top1", "val/mean_class_accuracy", "clips_per_second", "lr", "skipped_videos"):
        assert name in logged, name
    assert logged["val/predicted_clips/count"] == 4
    assert logged["val/most_confidently_wrong/count"] == 4
    assert logged["val/classes/_type"] == logged["val/batch_norms/_type"] == "table-file"
    for name in ("attention_0", "reliability", "confusion_matrix"):
        assert logged[f"val/{name}/_type"] == "image-file", name
    for name in ("gradient_norm/res4", "gradient_norm/head", "loader_wait_share", "val/expected_calibration_error"):
        assert logged[name] > 0, name
    assert logged["val/confusion_matrix/_type"] == "image-file"
    assert config["model"]["backbone"] == "tiny"
    assert len(config["manifests"]["train"]["hash"]) == 16
    assert config["model"]["clip"]["frame_stride"] == 6
    assert config["lineage"]["code"].startswith(farfield.__version__)
    assert len(list(folder.glob("files/media/videos/val/*.mp4"))) == 8
    assert len(list(folder.glob("files/media/images/val/confusion_matrix*.png"))) == 1
    run_id = (tmp_path / "run/wandb_run_id").read_text().strip()
    assert run_id in folder.name
    kept = [each.artifact for each in records(record) if each.HasField("artifact")]
    found = {
        (each.name, *sorted(set(each.aliases) - {"latest"})): [file.path for file in each.manifest.contents]
        for each in kept
    }
    assert found[f"model-{run_id}", "best"] == ["best.ckpt"]
    assert found[f"model-{run_id}", "last"] == ["last.ckpt"]
    assert found[("manifest-train",)] == ["train.csv"]


@pytest.mark.slow
def test_sync_hint_lists_every_folder_of_a_resumed_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("WANDB_MODE")
    run_dir = tmp_path / "my run"
    run_dir.mkdir()
    for number in range(3):
        caplog.clear()
        with caplog.at_level("INFO", "farfield"):
            logger = make_wandb_logger(WandbSettings(mode="offline"), run_dir, {})
        assert logger is not None
        logger.experiment.finish()
        folders = sorted(map(str, (run_dir / "wandb").glob("offline-run-*")))
        assert len(folders) == number + 1
        [hint] = [each for each in caplog.messages if "To upload the run later: " in each]
        named = shlex.split(hint.split("To upload the run later: ")[1])
        assert named == ["wandb", "sync", *(folders if number < 2 else folders[1:])]
        if number == 1:  # as wandb marks what it has uploaded
            (record,) = Path(folders[0]).glob("*.wandb")
            record.with_name(f"{record.name}.synced").touch()
        if number < 2:
            time.sleep(1.1)  # folders are named by the second


def test_account_is_an_api_key_in_the_environment_or_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert not has_wandb_account()
    (tmp_path / "netrc").write_text("machine api.wandb.ai\n  login user\n  password " + "0" * 40 + "\n")
    assert has_wandb_account()
    monkeypatch.setenv("NETRC", str(tmp_path / "nothing"))
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert has_wandb_account()


@pytest.mark.slow
def test_unreachable_server_means_offline(
    figures: Path,
    tmp_path: Path,
    run_farfield: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert run_farfield(*arguments(figures, tmp_path / "run", "--trainer.limit_train_batches=1")) == 0
    assert "is offline: http://127.0.0.1:9 cannot be reached" in capfd.readouterr().err
