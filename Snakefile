from snakemake.utils import min_version

min_version("9.20")


include: "rules/folder.smk"


configfile: "config.yaml"


report: "docs/report/workflow.rst"


include: "rules/common.smk"
include: "rules/targets.smk"
include: "rules/data.smk"
include: "rules/train.smk"
include: "rules/quantize.smk"
include: "rules/evaluate.smk"
include: "rules/report.smk"


onstart:
    prepare_folder()


rule all:
    default_target: True
    input:
        all_targets(),
    message:
        "All of the study is there"
