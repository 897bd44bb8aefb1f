from kdq.workflow import resources as needs
from kdq.data.folder_digest import counts

THREADS = STUDY.config.threads


def gpus_of(rule):
    """What trains asks for a GPU; on a cluster without any the profile sets it to 0, and the time limits follow."""
    in_profile = workflow.resource_settings.overwrite_resources.get(rule, {})
    return 0 if "gpu" in in_profile and in_profile["gpu"].value == 0 else 1


def memory(needs_of):
    """MB of memory, as much again for every further attempt."""
    return lambda wildcards, attempt: attempt * needs_of(wildcards).memory_mb


def minutes(needs_of):
    return lambda wildcards, attempt: attempt * needs_of(wildcards).minutes


@cache
def images_of(dataset):
    if dataset != "folder":
        return needs.IMAGES[dataset]
    images, classes = or_stop(counts, {"image_folder": DATA.image_folder})
    return needs.Images(images, DATA.image_size, 3, classes)


@cache
def builds_network(stage):
    """Does a stage give a network of its own? The others change that of their parent."""
    return not {"architecture", "source"}.isdisjoint(keys_of(stage))


@cache
def network_of(dataset, recipe):
    """The network that a recipe ends with."""
    stage = [stage for stage in recipe.split("/") if builds_network(stage)][-1]
    return needs.network(keys_of(stage), images_of(dataset))


def needs_of_data(wildcards):
    return needs.preparing(images_of(wildcards.dataset))


def needs_of_root(wildcards):
    return _needs_of_training(wildcards.dataset, "", wildcards.stage, gpus_of("root"))


def needs_of_distill(wildcards):
    return _needs_of_training(wildcards.dataset, wildcards.parent, wildcards.stage, gpus_of("distill"))


@cache
def _needs_of_training(dataset, parent, stage, gpu):
    keys, images = keys_of(stage), images_of(dataset)
    if keys.get("source", "train") != "train":
        return needs.importing(needs.network(keys, images))
    student = network_of(dataset, f"{parent}/{stage}" if parent else stage)
    teacher = network_of(dataset, parent) if parent else None
    return needs.training(images, keys, student, teacher, bool(gpu), THREADS)


def needs_of_retrain(wildcards):
    return _needs_of_retrain(wildcards.dataset, wildcards.parent, wildcards.stage, gpus_of("retrain"))


@cache
def _needs_of_retrain(dataset, parent, stage, gpu):
    recipe, last = or_stop(GRAMMAR.parse, parent), or_stop(GRAMMAR.parse_stage, stage)
    teacher = network_of(dataset, or_stop(GRAMMAR.teacher, recipe, last).path)
    return needs.training(images_of(dataset), keys_of(stage), network_of(dataset, parent), teacher, bool(gpu), THREADS)


def needs_of_cache(wildcards):
    teacher, crop, flip = network_of(wildcards.dataset, wildcards.parent), int(wildcards.crop), wildcards.flip == "true"
    gpu = bool(gpus_of("teacher_cache"))
    return needs.caching(images_of(wildcards.dataset), crop, flip, teacher, gpu, THREADS)


def needs_of_quantize(wildcards):
    return _needs_of_quantize(wildcards.dataset, wildcards.parent, wildcards.stage)


@cache
def _needs_of_quantize(dataset, parent, stage):
    return needs.quantizing(images_of(dataset), keys_of(stage)["images"], network_of(dataset, parent), THREADS)


def needs_of_sensitivity(wildcards):
    return _needs_of_sensitivity(wildcards.dataset, wildcards.parent, wildcards.stage)


@cache
def _needs_of_sensitivity(dataset, parent, stage):
    return needs.measuring(images_of(dataset), keys_of(stage)["images"], network_of(dataset, parent), THREADS)


def needs_of_evaluate(wildcards):
    own = builds_network(wildcards.stage)
    return _needs_of_evaluate(wildcards.dataset, wildcards.stage if own else wildcards.parent)


@cache
def _needs_of_evaluate(dataset, recipe):
    return needs.evaluating(images_of(dataset), network_of(dataset, recipe), THREADS)
