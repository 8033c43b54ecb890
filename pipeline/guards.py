"""What watches over the steps: gates that stop a run, and the closing that leaves its report.

On a cluster the outputs of a task that fails are lost, all but its log. So a step that refuses
hands over its report and says why it refuses, and the gate behind it fails. The gate keeps the
report on the run's own volume first, where the closing finds it whatever happens to the run.
"""

from kfp.dsl import HTML, Artifact, Input, Output, PipelineTaskFinalStatus

from pipeline.steps import step


@step
def gate(name: str, refusal: str, report: Input[Artifact], workspace: str) -> None:
    from pipeline.closing import keep_report

    keep_report(name, report.path, workspace)
    if refusal:
        raise SystemExit(f"{name}: {refusal}")


@step
def close(
    workspace: str, status: PipelineTaskFinalStatus, page: Output[HTML], reports: Output[Artifact]
) -> None:
    from pipeline.closing import close_run

    close_run(workspace, status.state, status.error_message or "", page.path, reports.path)
