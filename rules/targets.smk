from kdq.report.jobs import ReportJobs

REPORT = ReportJobs(STUDY, CODE)


def files_of_cells(rule):
    """The input files of a rule of the report that are those of cells."""
    return lambda wildcards: REPORT.inputs(rule, **wildcards)


def job_of_report(rule):
    return or_stop(REPORT.job, rule)


def data_files(wildcards):
    return REPORT.data_files()


def figures():
    return [
        f"results/{dataset}/figures/{figure}.{form}"
        for dataset in STUDY.config.datasets
        for figure in REPORT.contents.figures
        for form in ("png", "svg")
    ]


def all_targets():
    """Every model and its metrics too: what is missing is made again, also where the tables and the metrics stand."""
    tables = ["table", "summary", "layers", "comparisons"]
    tables += ["sequences"] if REPORT.contents.sequences else []
    tables += ["sensitivity"] if REPORT.contents.measured else []
    return [
        *PLAN.cells("model.safetensors"),
        *PLAN.cells("metrics.json"),
        *(f"results/{name}.csv" for name in tables),
        *figures(),
    ]
