import av
import numpy as np

from farfield.video.writer import write_video


def test_encoding_is_deterministic(tmp_path):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (24, 8, 11, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)  # 64 x 88: not whole blocks
    written = set()
    held = []
    for _ in range(24):  # x264's macroblock tree, switched off, gave other bytes in one call of five
        held.append(rng.bytes(int(rng.integers(1000, 200_000))))  # so that calls find different memory
        write_video(tmp_path / "clip.mp4", frames, fps=10)
        written.add((tmp_path / "clip.mp4").read_bytes())
    assert len(written) == 1


def test_a_path_with_a_colon_is_not_a_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run:1").mkdir()
    write_video("run:1/clip.mp4", np.zeros((3, 32, 32, 3), np.uint8), fps=10)
    with av.open(str(tmp_path / "run:1/clip.mp4")) as container:
        assert container.streams.video[0].frames == 3


def test_keyframes_come_as_often_as_asked(tmp_path):
    frames = np.full((47, 32, 32, 3), 90, np.uint8)  # nothing changes, so that no scene cut adds a keyframe
    for every, expected in ((250, [0]), (13, [0, 13, 26, 39])):
        write_video(tmp_path / "clip.mp4", frames, fps=10, keyframe_every=every)
        with av.open(str(tmp_path / "clip.mp4")) as container:
            packets = [packet for packet in container.demux(video=0) if packet.pts is not None]
            assert [number for number, packet in enumerate(packets) if packet.is_keyframe] == expected
