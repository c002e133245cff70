"""What is drawn for clips, and what becomes of them on the device, against torchvision and loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torchvision.transforms import v2

from farfield.clip_spec import ClipSpec
from farfield.data.augmentation import Augmentation, Draw, Mix
from farfield.data.crops import random_square
from farfield.data.transforms import mix_clips, network_input, rand_augment
from farfield.errors import FarfieldError
from farfield.training.loss import classification_loss

SPEC = ClipSpec(num_frames=3, crop_px=13)


def draw(augmentation: Augmentation, count: int = 300, side_px: int = 24, keep: bool = False) -> Draw:
    rngs = [np.random.default_rng(i) for i in range(count)]
    return augmentation.draw(rngs, np.random.default_rng(7), [keep] * count, side_px)


def test_nothing_is_drawn_for_augmentations_that_are_off() -> None:
    assert draw(Augmentation(flip=False)) == Draw()


def test_draws_lie_within_their_bounds() -> None:
    colour = draw(Augmentation(colour=0.3)).colour
    assert 0.7 <= colour.min() < 0.72
    assert 1.28 < colour.max() <= 1.3
    assert 100 < draw(Augmentation()).flip.sum() < 200
    erased = draw(Augmentation(erase=0.5)).erase
    assert 100 < (erased[:, 2] > 0).sum() < 200
    assert (erased[:, 0] + erased[:, 2] <= 24).all()
    assert (erased[:, 1] + erased[:, 3] <= 24).all()
    for settings in (Augmentation(mixup=0.8), Augmentation(cutmix=1.0)):
        mix = draw(settings).mix
        assert sorted(mix.partner.tolist()) == list(range(300))
        assert 0.5 <= mix.share.min() < 0.6 < 0.9 < mix.share.max() <= 1
        assert (mix.box[:, :2] + mix.box[:, 2:] <= 24).all()
        assert bool(mix.box.any()) == bool(settings.cutmix)
        if settings.cutmix:
            torch.testing.assert_close(1 - mix.box[:, 2] * mix.box[:, 3] / 24**2, mix.share)


def test_classes_that_mirroring_would_change_are_not_mirrored() -> None:
    assert not draw(Augmentation(), keep=True).flip.any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop_scale": (0.5, 1.5)}, "0 < smallest <= largest <= 1"),
        ({"short_side_px": (320, 256)}, r"short_side_px is \(320, 256\)"),
        ({"colour": 1.0}, "below 1"),
        ({"rand_augment": 2, "rand_augment_magnitude": 31}, "magnitude is 31; .*magnitude must be 0 to 30"),
        ({"erase": 2.0}, "it must be a probability"),
        ({"mixup": -1.0}, "must be at least 0"),
    ],
)
def test_invalid_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(FarfieldError, match=message):
        Augmentation(**settings)


def test_the_papers_crop_is_a_square_of_the_resized_frame() -> None:
    rng = np.random.default_rng(0)
    boxes = [random_square(240, 320, 224, (256, 320), rng) for _ in range(500)]
    sides = [side for _, _, side, _ in boxes]
    assert all(height == width for _, _, height, width in boxes)
    assert min(sides) == round(240 * 224 / 320)
    assert max(sides) == round(240 * 224 / 256)
    assert max(top + side for top, _, side, _ in boxes) == 240
    assert max(left + side for _, left, side, _ in boxes) == 320


def test_rand_augment_is_torchvisions_with_one_choice_for_all_frames_of_a_clip() -> None:
    clips = torch.randint(0, 256, (5, 1, 1, 17, 17, 3), dtype=torch.uint8).repeat(1, 1, 3, 1, 1, 1)
    seeds = torch.tensor([3, 14, 159, 2653, 3])
    settings = Augmentation(rand_augment=3, rand_augment_magnitude=12)
    before = torch.get_rng_state()
    ours = rand_augment(clips, seeds, settings)
    assert torch.equal(torch.get_rng_state(), before), "it drew from the state that dropout draws from"
    assert torch.equal(ours[:, :, 0], ours[:, :, 2])
    for i, seed in enumerate(seeds.tolist()):
        torch.manual_seed(seed)
        image = v2.RandAugment(3, 12, fill=128)(clips[i, 0, 0].permute(2, 0, 1))
        assert torch.equal(ours[i, 0, 0], image.permute(1, 2, 0))
    assert not torch.equal(ours, clips)
    x = network_input(clips, SPEC, draw=Draw(rand_augment=seeds), augmentation=settings)
    torch.testing.assert_close(x, network_input(ours, SPEC))


def test_a_box_is_erased_from_every_frame() -> None:
    clips = torch.randint(0, 256, (2, 1, 3, 13, 13, 3), dtype=torch.uint8)
    x = network_input(clips, SPEC, draw=Draw(erase=torch.tensor([[0, 0, 0, 0], [2, 5, 4, 3]])))
    plain = network_input(clips, SPEC)
    torch.testing.assert_close(x[0], plain[0])
    plain[1, :, :, 2:6, 5:8] = 0
    torch.testing.assert_close(x[1], plain[1])


def test_mixing_equals_slow_loops() -> None:
    x = torch.rand(4, 1, 3, 13, 13, 3)
    mix = Mix(torch.tensor([2, 0, 3, 1]), torch.tensor([0.7, 0.9, 0.6, 1.0]), torch.zeros(4, 4, dtype=torch.int64))
    mix.box[1] = torch.tensor([3, 4, 5, 6])
    mixed = mix_clips(x, mix)
    for i in range(4):
        other = x[mix.partner[i]]
        expected = mix.share[i] * x[i] + (1 - mix.share[i]) * other
        if i == 1:
            expected = x[i].clone()
            expected[:, :, 3:8, 4:10] = other[:, :, 3:8, 4:10]
        torch.testing.assert_close(mixed[i], expected)


def test_the_loss_of_mixed_clips_is_that_of_mixed_labels() -> None:
    class Mixed:
        labels = torch.tensor([2, 0, 1, 2])
        draw = Draw(mix=Mix(torch.tensor([1, 2, 3, 0]), torch.tensor([0.7, 0.9, 0.6, 1.0]), torch.zeros(4, 4).long()))

    logits = torch.randn(4, 3)
    share = Mixed.draw.mix.share[:, None]
    soft = share * F.one_hot(Mixed.labels, 3) + (1 - share) * F.one_hot(Mixed.labels[Mixed.draw.mix.partner], 3)
    for smoothing in (0.0, 0.1):
        expected = F.cross_entropy(logits, soft, label_smoothing=smoothing)
        torch.testing.assert_close(classification_loss(logits, Mixed, label_smoothing=smoothing), expected)
