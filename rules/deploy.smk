rule export:
    input:
        data=DATA_FILE,
        model=f"{PARENT}/model.safetensors",
        predictions=f"{PARENT}/predictions.safetensors",
    output:
        record=f"{PARENT}/model.onnx.json",
        onnx=f"{PARENT}/model.onnx",
    log:
        "logs/export/{dataset}/seed={seed}/{parent}.log",
    conda:
        "../envs/kdq.yaml"
    threads: STUDY.config.threads
    resources:
        mem_mb=ESTIMATES.memory("evaluate"),
        runtime=ESTIMATES.minutes("evaluate"),
    params:
        job=PLAN.script_job("scripts/export.py"),
    message:
        "Exporting {wildcards.dataset} seed {wildcards.seed}: {wildcards.parent}"
    shell:
        PLAN.command("scripts/export.py", input="data model predictions", output="record onnx")


# all cores: nothing of this run is measured beside another job
rule latency:
    input:
        data=DATA_FILE,
        model=f"{PARENT}/model.onnx",
        float=PLAN.float_onnx,
        root=PLAN.root_onnx,
    output:
        latency=f"{PARENT}/latency.json",
    log:
        "logs/latency/{dataset}/seed={seed}/{parent}.log",
    conda:
        "../envs/kdq.yaml"
    threads: workflow.cores
    params:
        job=PLAN.script_job("scripts/latency.py"),
    message:
        "Timing {wildcards.dataset} seed {wildcards.seed}: {wildcards.parent}"
    shell:
        PLAN.command("scripts/latency.py", input="data model float root", output="latency")
