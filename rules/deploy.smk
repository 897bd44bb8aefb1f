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
        job=PLAN.export_job,
    message:
        "Exporting {wildcards.dataset} seed {wildcards.seed}: {wildcards.parent}"
    shell:
        PLAN.command("scripts/export.py", input="data model predictions", output="record onnx")


# all cores: nothing of this run is measured beside another job
rule latency:
    input:
        onnx=f"{PARENT}/model.onnx",
        record=f"{PARENT}/model.onnx.json",
        float_onnx=PLAN.timed("float_onnx"),
        float_record=PLAN.timed("float_record"),
        root_onnx=PLAN.timed("root_onnx"),
        root_record=PLAN.timed("root_record"),
        network=PLAN.timed("network"),
    output:
        latency=f"{PARENT}/latency.json",
    log:
        "logs/latency/{dataset}/seed={seed}/{parent}.log",
    conda:
        "../envs/kdq.yaml"
    threads: PLAN.all_cores
    resources:
        mem_mb=ESTIMATES.memory("latency"),
        runtime=ESTIMATES.minutes("latency"),
    params:
        job=PLAN.script_job("scripts/latency.py"),
        machine=lambda wildcards: PLAN.machine,
    message:
        "Timing {wildcards.dataset} seed {wildcards.seed}: {wildcards.parent}"
    shell:
        PLAN.command(
            "scripts/latency.py",
            input="onnx record float_onnx float_record root_onnx root_record network",
            output="latency",
        )


rule model_folder:
    input:
        data=DATA_FILE,
        model=f"{PARENT}/model.safetensors",
        onnx=f"{PARENT}/model.onnx",
        record=f"{PARENT}/model.onnx.json",
        metrics=f"{PARENT}/metrics.json",
        float=PLAN.in_folder("float"),
        latency=PLAN.in_folder("latency"),
    output:
        provenance=f"{PARENT}/hub/provenance.json",
        card=f"{PARENT}/hub/README.md",
        onnx=f"{PARENT}/hub/model.onnx",
        model=f"{PARENT}/hub/model.safetensors",
        config=f"{PARENT}/hub/config.json",
        preprocessor=f"{PARENT}/hub/preprocessor_config.json",
        license=f"{PARENT}/hub/LICENSE",
    log:
        "logs/model_folder/{dataset}/seed={seed}/{parent}.log",
    conda:
        "../envs/kdq.yaml"
    threads: STUDY.config.threads
    resources:
        mem_mb=ESTIMATES.memory("evaluate"),
        runtime=ESTIMATES.minutes("evaluate"),
    params:
        job=PLAN.folder_job,
    message:
        "Folder to give away of {wildcards.dataset} seed {wildcards.seed}: {wildcards.parent}"
    shell:
        PLAN.command(
            "scripts/model_folder.py",
            input="data model onnx record metrics float latency",
            output="provenance card onnx model config preprocessor license",
        )
