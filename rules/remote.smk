from snakemake_interface_executor_plugins.utils import TargetSpec

from kdq.workflow.snakemake_fixes.target_jobs import target_jobs


def wildcards_of(rule):
    return workflow.get_rule(rule).wildcard_names or set()


def with_right_targets(prepare_dag):
    """Let a Snakemake on a node of a cluster make what it was sent to make, which it misreads by itself."""

    def prepare(*arguments, **options):
        asked = or_stop(target_jobs, sys.argv, wildcards_of)
        workflow.dag_settings.target_jobs = [TargetSpec(rule, wildcards) for rule, wildcards in asked]
        prepare_dag(*arguments, **options)

    return prepare


# its settings are there only after the Snakefile was read
if not workflow.is_main_process:
    workflow._prepare_dag = with_right_targets(workflow._prepare_dag)
