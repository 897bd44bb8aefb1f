from snakemake.utils import min_version

min_version("9.20")


include: "rules/folder.smk"


report: "docs/report/workflow.rst"


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/train.smk"
include: "rules/quantize.smk"
include: "rules/evaluate.smk"
include: "rules/deploy.smk"
include: "rules/report.smk"


onstart:
    sys.stderr.writelines(or_stop(working_folder.prepare, Path("results"), Path("logs")))
    sys.stderr.writelines(PLAN.thread_notice())
    sys.stderr.writelines(launch.notice())


onsuccess:
    TERMINAL.finish()


onerror:
    TERMINAL.fail()


rule all:
    default_target: True
    input:
        PLAN.all_targets(),
    message:
        "All of the study is there"
