from kdq.report.contents import Contents

CONTENTS = Contents(STUDY)


def files_of(dataset, recipes, name):
    """The file ``name`` of recipes: all seeds of the first, then all of the second, and so on."""
    return [f"results/{dataset}/seed={seed}/{recipe}/{name}" for recipe in recipes for seed in STUDY.config.seeds]


def files_of_all(name):
    """The file ``name`` of every cell and of all that they descend from."""
    return lambda wildcards: [
        path for dataset in STUDY.config.datasets for path in files_of(dataset, CONTENTS.recipes, name)
    ]


def trained_histories(wildcards):
    return files_of(wildcards.dataset, CONTENTS.trained, "history.csv")


def measured_files(wildcards):
    return [
        path for dataset in STUDY.config.datasets for path in files_of(dataset, CONTENTS.measured, "sensitivity.csv")
    ]


def dkd_files(name):
    return lambda wildcards: files_of(wildcards.dataset, [point.recipe for point in CONTENTS.dkd_grid], name)


def table_job():
    grid = [point.recipe for point in CONTENTS.dkd_grid]
    return job_of_script("scripts/table.py") | {"dkd_grid": grid, "kinds": CONTENTS.kinds}


def compare_job():
    return job_of_script("scripts/compare.py") | {"kinds": CONTENTS.kinds}


def data_files(wildcards):
    return [DATA_FILE.format(dataset=dataset) for dataset in STUDY.config.datasets]


def training_curves_job():
    shown = {"quantized": CONTENTS.quantized_networks, "recipes": CONTENTS.trained}
    return job_of_script("scripts/plot_training_curves.py") | shown


def dkd_curves_job():
    points = [[point.alpha, point.beta] for point in CONTENTS.dkd_grid]
    return job_of_script("scripts/plot_dkd_curves.py") | {"points": points}


def figures():
    return [
        f"results/{dataset}/figures/{figure}.{form}"
        for dataset in STUDY.config.datasets
        for figure in CONTENTS.figures
        for form in ("png", "svg")
    ]


def all_targets():
    """Every cell too: where a cell is missing and the table is not, the cell is made again."""
    tables = ["table", "summary", "layers", "comparisons"]
    if CONTENTS.measured:
        tables.append("sensitivity")
    return [*cells("metrics.json"), *(f"results/{name}.csv" for name in tables), *figures()]
