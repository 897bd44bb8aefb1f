"""Methods of pruning: how much, which weights, when; and what every later stage leaves as it is."""

import importlib

import pytest
import torch

import kdq
from kdq.distill.stage import distill
from kdq.errors import UserError
from kdq.evaluate.stage import sizes
from kdq.evaluate.work import macs_per_layer, work
from kdq.models import file as model_file
from kdq.models import masks, registry
from kdq.models.codes import Codes
from kdq.prune.method import lowest
from kdq.prune.methods.nm import largest_of_groups
from kdq.quantize.bits.scale import radius
from kdq.quantize.bits.sensitivity import measure
from kdq.quantize.quantizer import quantizer_of
from kdq.quantize.stage import bits_of_layers, quantize_stage
from kdq.recipe.stages import check, find_stages
from kdq.retrain.stage import load
from kdq.train.stage import save
from tests.distill.samples import killed_at
from tests.retrain.conftest import CPU, HEADER

QUANTIZERS = ("rtn", "gpfq", "gptq", "qronos", "spfq", "sparse", "adaround", "brecq")
QUICK = {"adaround": {"iterations": 20}, "brecq": {"iterations": 20}}


def prunable(network) -> dict:
    return {
        name: module
        for name, module in network.named_modules()
        if hasattr(module, "weight") and module.weight.dim() > 1
    }


def zeros(model) -> dict[str, torch.Tensor]:
    """Return where the weights of a trained model are zero, its codes of quantized layers."""
    return {
        name: (model.codes[name].codes if name in model.codes else layer.weight) == 0
        for name, layer in prunable(model.network).items()
    }


class TestAmount:
    @pytest.mark.parametrize("scope", ["network", "layer"])
    @pytest.mark.parametrize("parent", ["float", "rtn"])
    @pytest.mark.parametrize("changes", [{"epochs": 0}, {"epochs": 2, "gradual": 1.0}, {"epochs": 2, "averaging": 0.5}])
    def test_is_what_was_asked_to_a_weight(self, go_on, scope, parent, changes):
        model = go_on(parent, "magnitude", scope=scope, sparsity=0.7, **changes)
        left = masks.masks_of(model.network)
        counts = {name: (mask.numel(), int((~mask).sum())) for name, mask in left.items()}
        total = sum(layer.weight.numel() for layer in prunable(model.network).values())
        if scope == "layer":
            assert all(pruned == round(0.7 * size) for size, pruned in counts.values())
            assert sum(size for size, _ in counts.values()) == total
        else:
            assert sum(pruned for _, pruned in counts.values()) == round(0.7 * total)
        assert all(zeros(model)[name][~mask].all() for name, mask in left.items())
        if parent == "float":  # and no other weight is 0
            assert all(torch.equal(zeros(model)[name], ~mask) for name, mask in left.items())

    def test_leaves_out_layers_that_are_named(self, go_on):
        model = go_on("float", "magnitude", epochs=0, keep="first+layer2+last", sparsity=0.9)
        left = masks.masks_of(model.network)
        assert left and not any(name.startswith(("conv1", "layer2", "fc")) for name in left)

    def test_counts_what_was_pruned_before(self, go_on):
        go_on("float", "magnitude", into="half", epochs=0, sparsity=0.5)
        model = go_on("half", "magnitude", epochs=1, sparsity=0.6)
        once = masks.masks_of(go_on("float", "magnitude", epochs=0, sparsity=0.5).network)
        left = masks.masks_of(model.network)
        total = sum(layer.weight.numel() for layer in prunable(model.network).values())
        assert sum(int((~mask).sum()) for mask in left.values()) == round(0.6 * total)
        assert all(not left[name][~mask].any() for name, mask in once.items())

    def test_never_gets_smaller(self, go_on):
        go_on("float", "magnitude", into="half", epochs=0, sparsity=0.5)
        before, after = (
            masks.masks_of(go_on(parent, "magnitude", epochs=0, sparsity=sparsity).network)
            for parent, sparsity in (("float", 0.5), ("half", 0.3))
        )
        assert all(torch.equal(after[name], mask) for name, mask in before.items())

    def test_magnitude_prunes_the_smallest(self, go_on, files):
        before = prunable(model_file.load(files["float"]))
        left = masks.masks_of(go_on("float", "magnitude", epochs=0, sparsity=0.5).network)
        pruned = torch.cat([before[name].weight[~mask].abs() for name, mask in left.items()])
        kept = torch.cat([before[name].weight[mask].abs() for name, mask in left.items()])
        assert pruned.max() <= kept.min()

    def test_of_equal_scores_the_first_are_pruned(self):
        assert lowest(torch.tensor([2.0, 1.0, 1.0, 1.0]), 2).tolist() == [True, False, False, True]


class TestGroups:
    def test_of_hand(self):
        scores = torch.tensor([[4.0, 1.0, 3.0, 2.0, 5.0, 5.0, 5.0, 5.0]])
        expected = [[True, False, True, False, True, True, False, False]]
        assert largest_of_groups(scores, 2, 4).tolist() == expected

    def test_lie_along_the_input_channels(self, go_on):
        lines = []
        model = go_on("float", "nm", epochs=1, log=lines.append)
        left = masks.masks_of(model.network)
        assert left and "conv1" not in left
        assert "conv1: is not pruned, its 1 input channels are no multiple of 4" in lines
        for name, mask in left.items():
            groups = mask.movedim(1, -1).unflatten(-1, (-1, 4))
            assert (groups.sum(-1) == 2).all(), name
            assert torch.equal(zeros(model)[name], ~mask)

    def test_that_finds_no_layer_is_refused(self, go_on):
        with pytest.raises(UserError, match="nm: m: found 7, of which no layer's input channels are a multiple"):
            go_on("float", "nm", epochs=0, m=7, n=3)

    def test_that_leave_all_are_refused(self, home):
        with pytest.raises(UserError, match="n: found 4 beside m=4, expected fewer"):
            check(find_stages(home / "kdq")["nm"].keys, {"n": 4, "m": 4}, "recipe")


class TestNothing:
    """At sparsity 0 every stage gives what it gives without."""

    @pytest.mark.parametrize("parent", ["float", "rtn"])
    def test_pruned_is_fine_tuning(self, go_on, parent):
        models = [
            go_on(parent, name, epochs=2, **keys) for name, keys in (("magnitude", {"sparsity": 0.0}), ("finetune", {}))
        ]
        first, second = (model.network.state_dict() for model in models)
        assert all(torch.equal(first[name], second[name]) for name in second)
        assert all(torch.equal(models[0].codes[name].codes, codes.codes) for name, codes in models[1].codes.items())
        assert not masks.masks_of(models[0].network)

    def test_pruned_and_nothing_trained_is_the_parent(self, go_on, files):
        parent = model_file.read(files["rtn"])
        model = go_on("rtn", "magnitude", epochs=0, sparsity=0.0, start="codes")
        assert not model.history
        for name, codes in parent.codes.items():
            assert torch.equal(model.codes[name].codes, codes.codes) and torch.equal(model.codes[name].step, codes.step)


class TestGradually:
    def test_sparsity_rises_as_published_and_only_full_epochs_are_saved(self, go_on, monkeypatch):
        from kdq.prune.methods.magnitude import Magnitude

        shares, prune = [], Magnitude.masks

        def noted(self, weights, left, share):
            shares.append(share)
            return prune(self, weights, left, share)

        lines = []
        monkeypatch.setattr(Magnitude, "masks", noted)
        changes = {"epochs": 4, "gradual": 0.75, "sparsity": 0.99, "learning_rate": 1e-8}
        model = go_on("float", "magnitude", log=lines.append, **changes)
        assert shares == pytest.approx([1 - (2 / 3) ** 3, 1 - (1 / 3) ** 3, 1])
        accuracies = [row["validation_accuracy"] for row in model.history]
        assert accuracies[0] > accuracies[2]  # sparser ones are worse, and nothing is learned at this rate
        assert any(line.startswith(("saving epoch 3", "saving epoch 4")) for line in lines)

    @pytest.mark.parametrize("averaging", [0.0, 0.5])
    @pytest.mark.parametrize("parent", ["float", "rtn"])
    def test_killed_it_ends_with_the_bytes_of_the_uninterrupted_run(self, go_on, files, tmp_path, parent, averaging):
        changes = {"epochs": 4, "gradual": 0.75, "sparsity": 0.8, "averaging": averaging, "distillation_weight": 1.0}
        go_on(parent, "magnitude", into="whole", checkpoint="whole", **changes)
        with killed_at(13):  # in epoch 3 of 5 steps
            go_on(parent, "magnitude", checkpoint="killed", **changes)
        lines = []
        torch.manual_seed(99)
        go_on(parent, "magnitude", into="again", checkpoint="killed", log=lines.append, **changes)
        assert any("going on after epoch 2" in line for line in lines)
        assert files["whole"].read_bytes() == files["again"].read_bytes()


@pytest.fixture
def sparse_file(go_on, files):
    """The file of the network with 60% of its weights pruned."""
    go_on("float", "magnitude", into="sparse", epochs=1, sparsity=0.6)
    return files["sparse"]


def quantized_from(path, name, few, **keys):
    network = model_file.to_network(model_file.read(path))
    module = f"kdq.quantize.methods.{name}"
    full = importlib.import_module(module).Parameters(**{"images": 16, **QUICK.get(name, {}), **keys}).model_dump()
    codes = quantize_stage(network, few, quantizer_of(module, full, 0), seed=0, device=CPU, log=lambda line: None)
    return network, codes


class TestQuantizers:
    @pytest.mark.parametrize("name", QUANTIZERS)
    def test_keep_zeros(self, sparse_file, few, name):
        left = model_file.read(sparse_file).masks
        network, codes = quantized_from(sparse_file, name, few, bits=3)
        assert all(not codes[layer].codes[~mask].any() for layer, mask in left.items())
        assert all(torch.equal(masks.masks_of(network)[layer], mask) for layer, mask in left.items())

    @pytest.mark.parametrize(
        "keys",
        [
            {"activations": 8},
            {"channels": "equalize"},
            {"bias": "correct"},
            {"granularity": "layer", "scale": 0.8},
            {"patches": 64},
            {"order": "iterative"},
        ],
    )
    def test_keep_zeros_with_every_option(self, sparse_file, few, keys):
        left = model_file.read(sparse_file).masks
        _, codes = quantized_from(sparse_file, "gpfq", few, **keys)
        assert all(not codes[layer].codes[~mask].any() for layer, mask in left.items())

    def test_leave_a_smaller_file_and_less_work(self, go_on, few, files, tmp_path):
        made = {}
        go_on("float", "magnitude", into="very sparse", epochs=0, sparsity=0.9)
        for name, path in (("dense", files["float"]), ("sparse", files["very sparse"])):
            network, codes = quantized_from(path, "gpfq", few, bits=4)
            made[name] = tmp_path / f"{name}4.safetensors"
            model_file.save(made[name], network, network.architecture, codes, **HEADER)
        image, found = few.test.images[:1], {}
        for name, path in made.items():
            file = model_file.read(path)
            network = model_file.to_network(file)
            found[name] = sizes(file, path, network) | work(network, image, file.codes, file.masks)
        dense, sparse = found["dense"], found["sparse"]
        weights = dense["quantized_weights"]
        assert sparse["sparsity"] == pytest.approx(0.9, abs=1e-4) and dense["sparsity"] == 0
        assert sparse["quantized_weights"] == weights - round(0.9 * weights)
        assert sparse["parameters"] == dense["parameters"] - round(0.9 * weights)
        # 4 bits of each weight, or of a tenth and half a bit for the mask
        assert dense["file_bytes"] - sparse["file_bytes"] == pytest.approx(weights * (4 - 0.4 - 0.5) / 8, rel=0.1)
        assert sparse["entropy_bytes"] < dense["entropy_bytes"]
        file = model_file.read(made["sparse"])
        macs = macs_per_layer(model_file.to_network(file), image.float() / 255)
        expected = sum(round(count * file.masks[name].double().mean().item()) for name, count in macs.items())
        assert sparse["macs"] == expected < dense["macs"]
        assert sparse["bit_operations"] == 4 * 32 * sparse["macs"]


class TestBits:
    def test_a_budget_is_that_of_the_weights_that_are_left(self, sparse_file, few, home):
        """Layers of the network are pruned to unlike shares, so that their share of all weights has changed."""
        network = model_file.to_network(model_file.read(sparse_file))
        module = "kdq.quantize.methods.rtn"
        quantizer = quantizer_of(module, {"images": 16, "budget": 3.0}, 0)
        rows = measure(network, few.train, quantizer, log=lambda row: None)
        left = model_file.read(sparse_file).masks
        assert {row.layer: row.weights for row in rows} == {name: int(mask.sum()) for name, mask in left.items()}
        chosen = bits_of_layers(network, few.train.images[:16], rows, quantizer.keys)
        spent = sum(bits * int(left[name].sum()) for name, bits in chosen.items())
        assert spent <= 3 * sum(int(mask.sum()) for mask in left.values())
        assert spent > 2.9 * sum(int(mask.sum()) for mask in left.values())

    def test_adaptive_bits_stay_in_the_room_of_the_codes_that_are_left(self, go_on, sparse_file, files, few, tmp_path):
        network, codes = quantized_from(sparse_file, "rtn", few, bits=3)
        files["sparse3"] = tmp_path / "sparse3.safetensors"
        model_file.save(files["sparse3"], network, network.architecture, codes, **HEADER)
        trained = go_on("sparse3", "adaptive", epochs=2, every=1, adapting=1.0, select="last")
        left = {name: int(mask.sum()) for name, mask in masks.masks_of(trained.network).items()}
        spent = sum(weight.storage_bits * left[name] for name, weight in trained.codes.items())
        assert 2.9 * sum(left.values()) < spent <= 3 * sum(left.values())
        assert len({weight.storage_bits for weight in trained.codes.values()}) > 1


class TestLaterTraining:
    @pytest.mark.parametrize("name", ["qat", "qkd", "dcq", "adaptive", "finetune"])
    def test_keeps_masks(self, go_on, sparse_file, files, few, tmp_path, name):
        network, codes = quantized_from(sparse_file, "gpfq", few, bits=2)
        files["sparse2"] = tmp_path / "sparse2.safetensors"
        model_file.save(files["sparse2"], network, network.architecture, codes, **HEADER)
        left = model_file.read(sparse_file).masks
        averaging = {} if name == "adaptive" else {"averaging": 0.5}
        trained = go_on("sparse2", name, epochs=4, **averaging)
        assert all(torch.equal(masks.masks_of(trained.network)[layer], mask) for layer, mask in left.items())
        assert all(not trained.codes[layer].codes[~mask].any() for layer, mask in left.items())
        # and codes that are 0 without being pruned may change
        changed = [(trained.codes[layer].codes != codes[layer].codes).any() for layer in left]
        assert any(changed)
        assert any(trained.codes[layer].codes[mask & (codes[layer].codes == 0)].any() for layer, mask in left.items())

    def test_keeps_masks_of_a_float_network(self, go_on, sparse_file):
        left = model_file.read(sparse_file).masks
        trained = go_on("sparse", "finetune", epochs=2, averaging=0.5, distillation_weight=1.0)
        assert all(torch.equal(zeros(trained)[layer], ~mask) for layer, mask in left.items())

    def test_wins_back_what_pruning_lost(self, go_on, few, accuracy):
        go_on("float", "magnitude", into="bare", epochs=0, sparsity=0.95)
        pruned = go_on("bare", "magnitude", epochs=0, sparsity=0.95)
        trained = go_on("bare", "finetune", epochs=10)
        before, after = (accuracy(model.network.eval(), few.train) for model in (pruned, trained))
        assert after > before + 0.1


def test_a_history_of_no_epochs_is_empty(go_on, tmp_path):
    model = go_on("float", "magnitude", epochs=0)
    save(tmp_path / "model.safetensors", tmp_path / "history.csv", model, **HEADER)
    assert len((tmp_path / "history.csv").read_text().splitlines()) == 1


class TestRanges:
    """Steps are those of the weights that are left."""

    def test_a_quantile_is_of_the_weights_left(self):
        weight = torch.tensor([[[1.0, -2.0, 3.0, -4.0, 5.0], [1.0, 1.0, 1.0, 1.0, 9.0]]]).double()
        zeros = torch.zeros(1, 2, 7).double()
        pruned = torch.cat([torch.zeros_like(weight, dtype=torch.bool), torch.ones_like(zeros, dtype=torch.bool)], -1)
        for percentile in (0.3, 0.5, 0.9, 1.0):
            expected = radius(weight, percentile, "channel")
            found = radius(torch.cat([weight, zeros], -1), percentile, "channel", pruned)
            torch.testing.assert_close(found, expected)

    def test_rows_of_nothing_do_not_count(self):
        weight = torch.tensor([[[1.0, -2.0], [0.0, 0.0], [4.0, 3.0]]]).double()
        assert radius(weight, 1.0, "layer", weight == 0).unique().item() == 3
        assert radius(weight, 1.0, "layer").unique().item() == 2


def test_layers_that_are_called_by_a_function_are_evaluated():
    """Those of torchvision's Swin, whose multiplications no hook sees."""
    size = {"classes": 7, "channels": 3, "side": 32, "mean": [0.5] * 3, "std": [0.5] * 3}
    network = registry.build(**registry.described({"architecture": "torchvision/swin_t"}, **size)).eval()
    name, layer = next(pair for pair in network.named_modules() if pair[0].endswith("attn.proj"))
    image = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    whole = work(network, image, Codes())
    masks.attach(network, {name: torch.arange(layer.weight.numel()).view_as(layer.weight) % 2 == 0})
    assert work(network, image, Codes(), masks.masks_of(network)) == whole


def test_a_pruned_peer_is_not_saved(go_on, files, few, all_keys, tmp_path):
    """Its zeros would be in a network without masks."""
    go_on("float", "magnitude", into="half", epochs=0, sparsity=0.5)
    parent = load(files["half"], CPU).network
    keys = all_keys("dml", width=0.125, epochs=2)
    places = {"checkpoint": tmp_path / "dml.pt", "identity": "dml", "log": print}
    trained = distill(few, parent, "kdq.distill.methods.dml", keys, seed=0, threads=1, **places)
    assert (trained.network.layer4[0].conv1.weight != 0).all()


def test_another_instance_loses_its_masks(build, files, go_on):
    go_on("float", "magnitude", into="half", epochs=0, sparsity=0.5)
    instance = model_file.load(files["half"])
    model_file.to_network(model_file.read(files["float"]), into=instance)
    whole = model_file.load(files["float"])
    assert not masks.masks_of(instance)
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in instance.state_dict().items())


def test_the_library_counts_what_is_left(few, build):
    network = build(width=0.25).eval()
    left = {name: torch.rand(layer.weight.shape) < 0.3 for name, layer in prunable(network).items()}
    masks.attach(network, left)
    quantized = kdq.quantize(network, few.train.images[:16], method="rtn", bits=4, keep=["fc"], input="uint8")
    count = {name: int(mask.sum()) for name, mask in left.items()}
    mean = (4 * sum(count.values()) + 28 * count["fc"]) / sum(count.values())
    assert quantized.bits_per_weight == pytest.approx(mean)
    assert f"{count['conv1']:,}" in quantized.table()
