"""The long check of cameras, scaled down, with the server that needs no other packages."""

from __future__ import annotations

import json
import sys

import check_cameras
import pytest


@pytest.mark.slow
def test_no_alarm_is_lost(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["check_cameras.py", "--minutes=0.8", "--server=http", "--json"])
    status = check_cameras.main()
    about = json.loads(capsys.readouterr().out)
    assert about["exit_status"] == 0, about
    assert about["alarms_lost"] == about["alarms_without_cause"] == about["clips_missing"] == []
    assert about["alarms_without_end"] == about["clips_without_a_bright_frame"] == 0
    assert about["alarms_expected"] > 0
    assert about["interruptions"] == 3
    assert sum("the stream is back" in line for line in about["messages"]) >= 2
    assert (status == 0) == about["ok"]  # memory settles in more time than this
