"""The terminal of a plan: its jobs, why they run, and what its study came to."""

from kdq.recipe.path import study_folder
from kdq.workflow.lost_records import LostRecords
from kdq.workflow.planning import Plan
from kdq.workflow.resources import Estimates
from kdq.workflow.terminal.causes import Causes
from kdq.workflow.terminal.graph import planned_jobs
from kdq.workflow.terminal.handler import Handler, install
from kdq.workflow.terminal.planned import PlannedJob


def attend(plan: Plan, estimates: Estimates) -> Handler:
    """Show the run of ``plan`` on the terminal; return the handler, which is told how the run ends."""
    settings, name = plan.settings, plan.study.name

    def planned() -> list[PlannedJob]:
        causes = Causes(LostRecords(plan.study, plan.code), settings.forces)
        cores = 0 if settings.is_on_cluster else settings.cores
        return planned_jobs(settings.dag, causes, estimates.seconds, cores)

    def results() -> list[str]:
        from kdq.report import outcome  # takes pandas, half a second

        return outcome.lines(study_folder(name))

    return install(settings, name, planned, results)
