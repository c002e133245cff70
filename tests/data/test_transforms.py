from __future__ import annotations

import torch
from torchvision.transforms.v2 import functional as tv

from farfield.clip_spec import ClipSpec
from farfield.data.augmentation import Draw
from farfield.data.transforms import change_colour, network_input

SPEC = ClipSpec(num_frames=2, crop_px=7, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))


def test_normalises_each_channel_and_joins_views_to_the_batch() -> None:
    clips = torch.randint(0, 256, (2, 3, 2, 5, 7, 3), dtype=torch.uint8)
    x = network_input(clips, SPEC)
    assert x.shape == (6, 3, 2, 5, 7)
    assert x.is_contiguous(memory_format=torch.channels_last_3d)
    for channel in range(3):
        pixel = clips[1, 2, 1, 4, 5, channel].item() / 255
        expected = (pixel - SPEC.mean[channel]) / SPEC.std[channel]
        torch.testing.assert_close(x[5, channel, 1, 4, 5].item(), expected, rtol=1e-5, atol=1e-6)


def test_only_drawn_clips_are_mirrored() -> None:
    clips = torch.randint(0, 256, (2, 1, 2, 5, 7, 3), dtype=torch.uint8)
    plain = network_input(clips, SPEC)
    mirrored = network_input(clips, SPEC, draw=Draw(flip=torch.tensor([False, True])))
    torch.testing.assert_close(mirrored[0], plain[0])
    torch.testing.assert_close(mirrored[1], plain[1].flip(-1))


def test_colour_changes_are_torchvisions() -> None:
    x = torch.rand(3, 1, 1, 5, 7, 3)  # one frame, so that the clip's mean grey is the frame's
    factors = torch.tensor([[1.3, 0.6, 1.4], [0.7, 1.2, 0.5], [1.0, 1.0, 1.0]])
    ours = change_colour(x, factors)
    for i in range(3):
        image = x[i, 0, 0].permute(2, 0, 1)
        for adjust, factor in zip(
            (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation), factors[i].tolist(), strict=True
        ):
            image = adjust(image, factor)
        torch.testing.assert_close(ours[i, 0, 0], image.permute(1, 2, 0), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(
        network_input((x * 255).byte(), SPEC, draw=Draw(colour=torch.ones(3, 3))), network_input((x * 255).byte(), SPEC)
    )
