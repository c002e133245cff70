from __future__ import annotations

import pytest

from farfield.curation.fetch_clip import Messages, reason_for


def test_equal_warnings_of_several_videos_are_merged() -> None:
    said = "[youtube] {}: Some formats may be missing. \x1b[33mSee\x1b[0m\n  https://youtu.be/{} for more"
    found = []
    for video in ("dQw4w9WgXcQ", "-a_b-c_d-e0"):
        messages = Messages(video)
        messages.warning(said.format(video, video))
        messages.warning(said.format(video, video))
        found.append(list(messages.warnings))
    assert found[0] == found[1] == ["[youtube] Some formats may be missing. See https://youtu.be/ID for more"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ERROR: [youtube] abc: Private video. Sign in if you've been granted access", "the video is private"),
        ("ERROR: [youtube] abc: Video unavailable", "the video is unavailable"),
        (
            "ERROR: [youtube] abc: This video has been removed by the uploader",
            "the video was removed",
        ),
        ("ERROR: [youtube] abc: Sign in to confirm your age", "the video is restricted by age"),
        ("ERROR: [youtube] abc: Requested format is not available", "Requested format is not available"),
        ("ERROR: [generic] -404-aaaaaa: HTTP Error 503: Service Unavailable", "HTTP Error 503: Service Unavailable"),
        (
            "ERROR: [youtube] a: has not made this video available in your country",
            "the video is not available in this country",
        ),
        ("ERROR: [generic] Unable to download webpage: timed out", "Unable to download webpage: timed out"),
    ],
)
def test_reasons_can_be_counted(text: str, reason: str) -> None:
    assert reason_for(text) == reason
