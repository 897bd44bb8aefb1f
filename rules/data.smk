rule prepare_data:
    output:
        data="results/{dataset}/data/split={split_seed}.safetensors",
    log:
        "logs/prepare_data/{dataset}/split={split_seed}.log",
    conda:
        "../envs/kdq.yaml"
    resources:
        mem_mb=memory(needs_of_data),
        runtime=minutes(needs_of_data),
    params:
        job=lambda wildcards: data_job(wildcards.dataset),
    message:
        "Preparing {wildcards.dataset}, split {wildcards.split_seed}"
    script:
        "../scripts/prepare_data.py"
