"""Batches of images that stay in their file: those of images on the device, byte for byte, and what is said of them."""

import threading

import pytest
import torch

from kdq.data import prepared as data_file
from kdq.data.batches import TrainingBatches
from kdq.data.random_boxes import RATIOS, random_boxes, resized_boxes
from kdq.data.streamed import StreamedBatches, bytes_on_device, free_bytes, is_streamed
from kdq.train import checkpoint as checkpoints
from kdq.train.stage import train_root
from tests.train.test_batches import images, seeded

CPU = torch.device("cpu")


def both(data, **settings):
    settings = {"batch_size": 5, "crop": 2, "flip": True, "cutout": 3, "fill": [0.5] * 3, **settings}
    return [kind(data, torch.arange(len(data)), **settings) for kind in (TrainingBatches, StreamedBatches)]


@pytest.mark.parametrize("settings", [{}, {"resolution": 4, "small_epochs": 1}, {"crop": 0, "area": 0.2}])
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_the_batches_are_those_of_resident_images_with_any_number_of_workers(settings, workers, monkeypatch):
    monkeypatch.setattr("kdq.data.streamed.WORKERS", workers)
    resident, streamed = both(images(23), **settings)
    generators = seeded(), seeded()
    before = torch.get_rng_state()
    for epoch in (1, 2):
        pairs = [list(kind.epoch(epoch, own)) for kind, own in zip((resident, streamed), generators, strict=True)]
        assert len(pairs[0]) == len(pairs[1]) == 4
        for first, second in zip(*pairs, strict=True):
            for name in ("images", "labels", "indices"):
                assert torch.equal(getattr(first, name), getattr(second, name))
            assert first.views is None and second.views is None
    assert torch.equal(torch.get_rng_state(), before)  # a network's dropout draws from it


def test_views_are_kept_for_the_teacher_s_cache():
    resident, streamed = both(images(10), cutout=0)
    for first, second in zip(resident.epoch(1, seeded()), streamed.epoch(1, seeded()), strict=True):
        assert torch.equal(first.views, second.views)


def test_no_process_is_forked_beside_other_threads(monkeypatch):
    _, streamed = both(images(10))
    seen = []
    monkeypatch.setattr("torch.utils.data.dataloader._MultiProcessingDataLoaderIter", lambda *_: pytest.fail("forked"))
    thread = threading.Thread(target=lambda: seen.extend(streamed.epoch(1, seeded())))
    thread.start()
    thread.join()
    assert len(seen) == 2


def test_a_training_that_streams_ends_with_the_same_bytes_and_resumes(few, training_keys, tmp_path, monkeypatch):
    """From the data file, whose tensors are mapped; killed after its first epoch, and started again as resident."""
    data_file.write(tmp_path / "data.safetensors", few)
    keys, lines = training_keys(epochs=3, flip=True) | {"label_smoothing": 0.0}, []

    def train(name, resident, epochs=3):
        places = {"checkpoint": tmp_path / f"{name}.pt", "identity": "run", "log": lines.append}
        settings = {"seed": 0, "threads": 1, "resident": resident}
        return train_root(data_file.read(tmp_path / "data.safetensors"), keys, **settings, **places)

    whole = train("whole", "true")
    assert not any("batch by batch" in line for line in lines)
    streamed = train("streamed", "false")
    needed = bytes_on_device(few.train.images, 1) + bytes_on_device(few.validation.images, 1)
    assert needed == (160 + 60) * 10 * 10
    assert any(line.startswith(f"images of {needed / 1e9:.3g} GB, ") for line in lines)
    saves, save = [], checkpoints.save

    def killed(*arguments):
        save(*arguments)
        saves.append(1)
        if len(saves) == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            train("killed", "false")
    resumed = train("killed", "false")
    assert any("going on after epoch 1" in line for line in lines)
    for other in (streamed, resumed):
        for name, value in whole.network.state_dict().items():
            assert torch.equal(other.network.state_dict()[name], value), name


class TestChoice:
    def test_images_that_take_more_than_half_of_the_free_memory_stay_in_their_file(self, monkeypatch):
        monkeypatch.setattr("kdq.data.streamed.free_bytes", lambda device: 3_000_000_000)
        lines = []
        assert not is_streamed("auto", 1_500_000_000, CPU, lines.append) and not lines
        assert is_streamed("auto", 1_500_000_001, CPU, lines.append)
        assert lines == ["images of 1.5 GB, 3 GB free on cpu: read from their file batch by batch (data.resident=auto)"]
        assert not is_streamed("true", 10**12, CPU, lines.append)
        assert is_streamed("false", 1, CPU, lines.append) and lines[-1].endswith("(data.resident=false)")

    def test_free_memory_is_that_of_the_system(self):
        assert 10**7 < free_bytes(CPU) < 10**14


class TestBoxes:
    def test_area_and_ratio_are_in_their_ranges_and_the_box_is_inside(self):
        boxes = random_boxes(2000, (64, 48), 0.25, seeded())
        top, left, height, width = boxes.T
        assert (boxes[:, :2] >= 0).all() and (top + height <= 64).all() and (left + width <= 48).all()
        assert (height * width / (64 * 48)).min() > 0.24 and (height * width / (64 * 48)).max() <= 1
        ratios = (width / height).tolist()
        assert min(ratios) > RATIOS[0] - 0.05 and max(ratios) < RATIOS[1] + 0.05
        assert len(set(map(tuple, boxes.tolist()))) > 1500
        assert {0} < set(top.tolist()) and {0} < set(left.tolist())

    def test_a_shape_that_never_fits_is_the_whole_image(self):
        boxes = random_boxes(50, (2, 200), 0.9, seeded())
        assert boxes.tolist() == [[0, 0, 2, 200]] * 50

    def test_the_box_is_resized_to_the_image(self):
        from torchvision.transforms.v2 import functional

        data = images(6, height=16, width=16)
        (top, left, height, width), *_ = random_boxes(6, (16, 16), 0.3, seeded()).tolist()
        result = resized_boxes(data, 0.3, seeded())
        assert result.shape == data.shape and result.dtype == torch.uint8
        box = data[0][:, top : top + height, left : left + width]
        assert torch.equal(result[0], functional.resize(box, [16, 16], antialias=True))

    def test_no_area_is_no_box_and_areas_change_the_images(self):
        resident, _ = both(images(10), crop=0, area=0.0)
        boxed, _ = both(images(10), crop=0, area=0.1)
        assert not torch.equal(next(resident.epoch(1, seeded())).images, next(boxed.epoch(1, seeded())).images)
        assert next(boxed.epoch(1, seeded())).views is None
