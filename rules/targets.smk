from kdq.report.jobs import ReportJobs
from kdq.study import products

REPORT = ReportJobs(STUDY, CODE)


def files_of_cells(rule):
    """The input files of a rule of the report that are those of cells."""
    return lambda wildcards: REPORT.inputs(rule, **wildcards)


def job_of_report(rule):
    return or_stop(REPORT.job, rule)


def data_files(wildcards):
    return REPORT.data_files()


def all_targets():
    return list(products.all_targets(STUDY, REPORT.contents))
