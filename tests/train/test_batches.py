"""Batches: an epoch is a permutation, augmentation is what torchvision's is, and the generator makes all of it."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from kdq.data.batches import TrainingBatches, evaluation_batches, resized, to_float, view_count


def images(count=20, channels=3, height=8, width=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, 256, (count, channels, height, width), generator=generator, dtype=torch.uint8)


def make(data=None, *, batch_size=5, crop=0, flip=False, cutout=0, fill=(0.5, 0.25, 0.0), **schedule):
    data = images() if data is None else data
    settings = {"batch_size": batch_size, "crop": crop, "flip": flip, "cutout": cutout, "fill": fill[: data.shape[1]]}
    return TrainingBatches(data, torch.arange(len(data)), **settings, **schedule)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class TestEpoch:
    @given(st.integers(1, 30), st.integers(1, 12))
    def test_every_image_once_but_the_last_few(self, count, batch_size):
        batches = make(images(count, 1, 2, 2), batch_size=batch_size)
        seen = torch.cat([batch.indices for batch in batches.epoch(1, seeded())]).tolist()
        size = min(batch_size, count)
        assert len(seen) == len(set(seen)) == count // size * size
        assert set(seen) <= set(range(count))
        assert len(batches) == count // size > 0

    def test_images_and_labels_belong_to_the_indices(self):
        data = images()
        for batch in make(data).epoch(3, seeded()):
            assert torch.equal(batch.labels, batch.indices)
            torch.testing.assert_close(batch.images, data[batch.indices].float() / 255)
            assert batch.images.dtype == torch.float32 and batch.epoch == 3
            assert batch.partner_labels is None and batch.mixing == 1.0

    def test_the_generator_makes_everything(self):
        def run(seed):
            batches = make(crop=2, flip=True, cutout=3)
            return torch.cat([batch.images for batch in batches.epoch(1, seeded(seed))])

        assert torch.equal(run(0), run(0))
        assert not torch.equal(run(0), run(1))

    def test_no_other_random_state_is_touched(self):
        before = torch.get_rng_state()
        list(make(crop=2, flip=True, cutout=3).epoch(1, seeded()))
        assert torch.equal(torch.get_rng_state(), before)

    def test_two_epochs_of_one_generator_differ(self):
        batches, generator = make(), seeded()
        first, second = ([b.indices.tolist() for b in batches.epoch(epoch, generator)] for epoch in (1, 2))
        assert first != second

    def test_the_data_set_is_not_changed(self):
        data = images()
        before = data.clone()
        batches = make(data, crop=2, flip=True, cutout=3)
        for batch in batches.epoch(1, seeded()):
            batch.images.zero_()
        assert torch.equal(data, before)

    def test_floats_are_shares_of_255(self):
        data = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
        assert to_float(data).flatten().tolist() == pytest.approx([0, 0.2, 1])

    @pytest.mark.parametrize("batch_size", [1, 7, 20, 500])
    def test_evaluation_is_in_order_and_whole(self, batch_size):
        data = images()
        assert torch.equal(torch.cat(list(evaluation_batches(data, batch_size))), to_float(data))


class TestCrop:
    @pytest.mark.parametrize("crop", [1, 2, 4])
    @pytest.mark.parametrize("shape", [(8, 8), (6, 9)])
    def test_equals_padding_and_cropping_one_by_one(self, crop, shape):
        data = images(20, 3, *shape)
        indices = torch.arange(20)
        found, _ = make(data, crop=crop).augment(indices, seeded())
        top, left = torch.randint(0, 2 * crop + 1, (2, 20), generator=seeded())
        for row in range(20):
            padded = F.pad(data[row], (crop,) * 4)
            expected = padded[:, top[row] : top[row] + shape[0], left[row] : left[row] + shape[1]]
            assert torch.equal(found[row], expected)

    def test_equals_torchvisions_crop_at_the_same_offsets(self):
        functional = pytest.importorskip("torchvision.transforms.v2.functional")
        data, crop = images(), 3
        found, _ = make(data, crop=crop).augment(torch.arange(20), seeded())
        top, left = torch.randint(0, 2 * crop + 1, (2, 20), generator=seeded()).tolist()
        for row in range(20):
            assert torch.equal(
                found[row], functional.crop(functional.pad(data[row], [crop]), top[row], left[row], 8, 8)
            )

    def test_every_offset_happens_and_none_else(self):
        """With a lone pixel in the middle, where it lands tells the offset."""
        data = torch.zeros(1, 1, 5, 5, dtype=torch.uint8)
        data[0, 0, 2, 2] = 255
        found, _ = make(data, crop=1).augment(torch.zeros(2000, dtype=torch.long), seeded())
        counts = (found[:, 0] == 255).sum(0)
        assert counts.sum() == 2000
        assert counts[1:4, 1:4].min() > 2000 / 9 * 0.7
        assert counts[1:4, 1:4].sum() == 2000

    def test_no_augmentation_gives_the_images(self):
        data = images()
        order = torch.tensor([3, 3, 19, 0])
        assert torch.equal(make(data).augment(order, seeded())[0], data[order])


class TestFlip:
    def test_each_image_is_itself_or_mirrored_about_half_the_time(self):
        data = images(2000, 1, 3, 3)
        found, _ = make(data, flip=True, batch_size=100).augment(torch.arange(2000), seeded())
        same = (found == data).flatten(1).all(1)
        mirrored = (found == data.flip(3)).flatten(1).all(1)
        assert (same | mirrored).all()
        assert 0.45 < mirrored.double().mean() < 0.55


class TestCutout:
    @pytest.mark.parametrize("side", [1, 2, 3, 4, 7])
    def test_a_square_takes_the_mean_and_nothing_else_changes(self, side):
        data = images(50, 3, 8, 8)
        fill = torch.tensor([128, 64, 0]).view(3, 1, 1)
        found, _ = make(data, cutout=side, fill=(128 / 255, 64 / 255, 0.0)).augment(torch.arange(50), seeded())
        filled = (found == fill).all(1)
        kept = (found == data).all(1)
        assert (filled | kept).all()
        for image in filled & ~kept:
            rows, columns = image.any(1).nonzero().flatten(), image.any(0).nonzero().flatten()
            # the area of the square is covered wholly; at the border it is clipped, but its centre is inside
            assert image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()
            for edge in (rows, columns):
                length = edge.max() - edge.min() + 1
                assert length <= side
                assert length == side or edge.min() == 0 or edge.max() == 7
                assert length >= side // 2

    def test_squares_inside_are_whole(self):
        masks = make(images(1, 1, 32, 32), cutout=4)._squares(500, seeded())
        areas = masks.flatten(1).sum(1)
        assert areas.max() == 16 and areas.min() >= 4
        assert (areas == 16).double().mean() > 0.7

    def test_none(self):
        data = images()
        assert torch.equal(make(data, cutout=0).augment(torch.arange(20), seeded())[0], data)


class TestViews:
    """A view's number says which crop it is and whether it is mirrored."""

    @pytest.mark.parametrize("flip", [False, True])
    @pytest.mark.parametrize("crop", [0, 1, 2])
    def test_each_equals_padding_cropping_and_mirroring_by_hand(self, crop, flip):
        data = images(4, 3, 6, 9)
        batches, order, offsets = make(data, crop=crop, flip=flip), torch.tensor([2, 0, 3]), range(2 * crop + 1)
        padded = F.pad(data[order], (crop,) * 4)
        by_hand = [padded[..., top : top + 6, left : left + 9] for top in offsets for left in offsets]
        if flip:
            by_hand += [image.flip(3) for image in by_hand]
        assert len(by_hand) == view_count(crop, flip)
        for view, expected in enumerate(by_hand):
            assert torch.equal(batches.view(order, torch.full_like(order, view)), expected)

    @pytest.mark.parametrize("flip", [False, True])
    @pytest.mark.parametrize("crop", [0, 1, 4])
    def test_a_batch_says_which_it_holds(self, crop, flip):
        batches = make(crop=crop, flip=flip)
        for batch in batches.epoch(1, seeded()):
            assert torch.equal(batch.images, to_float(batches.view(batch.indices, batch.views)))

    def test_all_happen(self):
        _, views = make(images(1), crop=1, flip=True).augment(torch.zeros(3600, dtype=torch.long), seeded())
        counts = torch.bincount(views, minlength=18)
        assert len(counts) == view_count(1, True) == 18 and counts.min() > 200 * 0.7

    def test_images_that_are_changed_are_none(self):
        assert next(make(cutout=3).epoch(1, seeded())).views is None
        plain = next(make().epoch(1, seeded()))
        assert plain.views is not None and plain.with_images(plain.images * 0.5).views is None


def triangle_weights(inputs: int, outputs: int) -> torch.Tensor:
    """The matrix (outputs, inputs) of the antialiased reduction: triangles as wide as two output pixels, by hand."""
    scale = inputs / outputs
    centres = (torch.arange(outputs, dtype=torch.float64)[:, None] + 0.5) * scale
    distance = (torch.arange(inputs, dtype=torch.float64)[None] + 0.5 - centres).abs() / scale
    weights = (1 - distance).clamp_min(0)
    return weights / weights.sum(1, keepdim=True)


class TestResolution:
    @pytest.mark.parametrize(("shape", "side", "expected"), [((8, 8), 6, (6, 6)), ((8, 12), 4, (4, 6))])
    def test_equals_the_weighted_means_of_all_covered_pixels(self, shape, side, expected):
        data = to_float(images(4, 3, *shape))
        found = resized(data, side)
        rows, columns = map(triangle_weights, shape, expected)
        assert found.shape[2:] == expected
        torch.testing.assert_close(found.double(), rows @ data.double() @ columns.T, atol=1e-6, rtol=0)
        assert found.is_contiguous(memory_format=torch.channels_last)

    @pytest.mark.parametrize("side", [0, 8, 9])
    def test_images_are_never_enlarged(self, side):
        data = to_float(images())
        assert resized(data, side) is data

    def test_the_first_epochs_have_the_same_images_reduced(self):
        augmented = {"crop": 2, "flip": True, "cutout": 3}
        whole, reduced = make(**augmented), make(**augmented, resolution=6, small_epochs=2)
        for epoch, side in ((1, 6), (2, 6), (3, 0)):
            pairs = zip(whole.epoch(epoch, seeded(epoch)), reduced.epoch(epoch, seeded(epoch)), strict=True)
            for full, small in pairs:
                assert torch.equal(small.images, resized(full.images, side))
                assert torch.equal(small.indices, full.indices)
        assert len(small.images[0, 0]) == 8

    def test_reduced_images_are_no_views(self):
        batches = make(resolution=6, small_epochs=1)
        assert next(batches.epoch(1, seeded())).views is None
        assert next(batches.epoch(2, seeded())).views is not None
