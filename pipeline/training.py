"""The flow as a Kubeflow pipeline, to be read aloud.

1. Simulate an archive, or take the one under DVC.    5. Train each network, side by side.
2. Ingest it.                                         6. Evaluate them; a gate may stop the run.
3. Validate it; a gate may stop the run.              7. Register the bundle as the candidate.
4. Resolve the augmentation.                          Last, and always: leave the reports.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kfp import dsl
from kfp.dsl import PipelineTask

from bonexray.kubeflow_config import KubeflowConfig
from pipeline import guards, pods, steps
from pipeline.closing import EVALUATION, VALIDATION
from pipeline.sources import Sources

PIPELINE = "bonexray"
"""Its name on a server."""


def build_pipeline(
    params: dict[str, Any], config: KubeflowConfig, image: str, sources: Sources
) -> Callable[..., Any]:
    """The pipeline whose inputs default to the sections of params.yaml.

    Args:
        params: params.yaml as read.
        config: its section `kubeflow`.
        image: the image that every step runs in, best by digest.
        sources: what the flow starts from.

    Returns:
        What kfp compiles or runs. Its input `commit` has no default: whoever submits a run says
        which code the image holds.
    """

    @dsl.pipeline(
        name=PIPELINE,
        description="Archive to registered candidate",
        pipeline_config=_pipeline_config(config),
    )
    def bonexray(
        commit: str,
        data: str = sources.data,
        simulate: dict[str, Any] = params["simulate"],
        ingest: dict[str, Any] = params["ingest"],
        validate: dict[str, Any] = params["validate"],
        augment: dict[str, Any] = params["augment"],
        archs: list[str] = params["networks"]["archs"],
        train: dict[str, Any] = params["train"],
        evaluate: dict[str, Any] = params["evaluate"],
        register: dict[str, Any] = params["register"],
        gpu_type: str = config.gpu_type,
        gpus: str = str(config.gpus),
        node_selector: dict[str, Any] = config.node_selector,
        tolerations: list[Any] = list(config.tolerations),  # noqa: B006  (an input's default)
    ) -> None:
        flow = Flow(config=config, image=image, sources=sources, commit=commit, data=data)
        place = {"gpu_type": gpu_type, "gpus": gpus} | {
            "node_selector": node_selector,
            "tolerations": tolerations,
        }
        closing = flow.settled(guards.close(workspace=_WORKSPACE), "Leave the reports")
        closing.set_caching_options(False)
        with dsl.ExitHandler(closing, name="flow"):
            prepared = flow.prepare(simulate, ingest, validate, augment)
            models = flow.train(archs, train, prepared, place)
            flow.judge(archs, evaluate, register, prepared, models)

    return bonexray  # type: ignore[no-any-return]  # kfp's decorator


_WORKSPACE = dsl.WORKSPACE_PATH_PLACEHOLDER


def _pipeline_config(config: KubeflowConfig) -> dsl.PipelineConfig:
    # Gates and closing mount it one after the other. A server has no access mode of its own.
    claim = dsl.KubernetesWorkspaceConfig(pvcSpecPatch={"accessModes": ["ReadWriteOnce"]})
    return dsl.PipelineConfig(
        workspace=dsl.WorkspaceConfig(size=f"{config.workspace_gib}Gi", kubernetes=claim),
        ttl_seconds_after_finished=config.keep_days * 86400,
        active_deadline_seconds=config.deadline_hours * 3600,
    )


@dataclass(frozen=True, kw_only=True)
class Flow:
    """The tasks of one pipeline. What is typed Any is an input of it, or a task's output."""

    config: KubeflowConfig
    image: str
    sources: Sources
    commit: Any
    data: Any

    def prepare(self, simulate: Any, ingest: Any, validate: Any, augment: Any) -> dict[str, Any]:
        """Steps 1 to 4. Returns what training reads, by its flags."""
        ingested = steps.ingest(params=ingest, archive=self._archive(simulate), **self._versions())
        dataset = ingested.outputs["out"]
        checked = steps.validate(
            params=validate, dataset=dataset, **self._champion(), **self._versions()
        )
        validated = checked.outputs["out"]
        resolved = steps.augment(
            params=augment, dataset=dataset, validated=validated, **self._versions()
        ).after(self._gate(VALIDATION, checked))
        pods.try_again(self.settled(ingested, "Ingest it"), self.config)
        pods.give_room(ingested, self.config)
        pods.give_room(self.settled(checked, "Validate it"), self.config)
        self.settled(resolved, "Resolve the augmentation")
        return {"dataset": dataset, "validated": validated, "policy": resolved.outputs["out"]}

    def train(
        self, archs: Any, train: Any, prepared: dict[str, Any], place: dict[str, Any]
    ) -> dsl.Collected:
        """Step 5. Returns the trained networks."""
        with dsl.ParallelFor(archs, name="each-network") as arch:
            trained = self._training(arch, train, prepared, place)
        pods.try_again(self.settled(trained, "Train a network"), self.config)
        pods.tell_places(trained, self.config)
        pods.mount_volume(trained, self.config)
        return dsl.Collected(trained.outputs["out"])

    def judge(
        self,
        archs: Any,
        evaluate: Any,
        register: Any,
        prepared: dict[str, Any],
        models: dsl.Collected,
    ) -> None:
        """Steps 6 and 7."""
        evaluated = steps.evaluate(
            params=evaluate,
            archs=archs,
            dataset=prepared["dataset"],
            validated=prepared["validated"],
            models=models,
            **self._champion(),
            **self._versions(),
        )
        registered = steps.register(
            params=register,
            bundle=evaluated.outputs["out"],
            report=evaluated.outputs["report"],
            **self._versions(),
        ).after(self._gate(EVALUATION, evaluated))
        pods.give_room(self.settled(evaluated, "Evaluate"), self.config)
        pods.try_again(self.settled(registered, "Register the candidate"), self.config)
        pods.tell_places(registered, self.config)
        pods.tell_run(registered)

    def settled(self, task: PipelineTask, name: str) -> PipelineTask:
        """The task with what every task gets."""
        return pods.settle(task, name, self.image, self.config)

    def _archive(self, simulate: Any) -> Any:
        if self.sources.archive is not None:
            return dsl.importer(
                artifact_uri=self.sources.archive, artifact_class=dsl.Dataset, reimport=False
            ).output
        simulated = steps.simulate(params=simulate, commit=self.commit)
        return self.settled(simulated, "Simulate an archive").outputs["out"]

    def _champion(self) -> dict[str, Any]:
        if self.sources.champion is None:
            return {"champion": {}}
        imported = dsl.importer(
            artifact_uri=self.sources.bundle, artifact_class=dsl.Model, reimport=False
        )
        return {"champion": self.sources.champion.model_dump(), "bundle": imported.output}

    def _versions(self) -> dict[str, Any]:
        return {"commit": self.commit, "data": self.data}

    def _gate(self, name: str, judged: PipelineTask) -> PipelineTask:
        gate = guards.gate(
            name=name,
            refusal=judged.outputs["Output"],
            report=judged.outputs["report"],
            workspace=_WORKSPACE,
        )
        gate.set_caching_options(False)
        return self.settled(gate, f"Gate of the {name}")

    def _training(
        self, arch: Any, train: Any, prepared: dict[str, Any], place: dict[str, Any]
    ) -> PipelineTask:
        """One network, in this task's own pod or in those that it starts on several nodes."""
        inputs = {"params": train, "arch": arch, **prepared, **self._versions()}
        if self.config.nodes > 1:
            cluster = self.config.model_dump(mode="json") | {"image": self.image}
            trained = steps.train_on_nodes(cluster=cluster, **place, **inputs)
            pods.name_itself(trained)
            return trained
        trained = steps.train(gpu_type=place["gpu_type"], gpus=place["gpus"], **inputs)
        pods.give_room(trained, self.config)
        pods.give_gpus(trained, **place)
        pods.share_memory(trained, self.config)
        return trained
