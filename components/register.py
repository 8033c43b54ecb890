"""Bundle and report -> a version in the model registry, with alias `candidate` and its lineage.

Registering the same bundle and report again finds the version that is there: a run that was killed
and one that was not end in the same registry.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import DatasetInput, InputTag, Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

from bonexray.artifacts import sha256_file, write_json
from bonexray.bundle import Bundle, open_bundle
from bonexray.command import run_or_exit, step_parser
from bonexray.config import RegisterConfig, read_section
from bonexray.errors import GateError, RegistryError, SealError
from bonexray.evaluation import (
    GATE_FILE,
    HISTORY_FILE,
    METRICS_FILE,
    read_gate,
    read_metrics,
    read_training,
)
from bonexray.registry import (
    BUNDLE_DIGEST_TAG,
    CANDIDATE,
    FLOW_ARTIFACTS,
    PACK_SHA256_TAG,
    REPORT_ARTIFACTS,
    in_a_line,
    tracking_uri,
)
from bonexray.sealed import MANIFEST_FILE, verify_seal
from components.lineage import DVC_LOCK, lineage_tags
from components.tracking import connect, dataset_of

_FLOW_FILES = (Path("params.yaml"), DVC_LOCK)
REGISTRATION_FILE = "registration.json"
_TABLES = {"networks", "subgroups", "test_by_part"}  # hundreds of figures, in the report artefact


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Nested figures -> `test/study/auroc`, 0.91; what is not a number is left out."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", float(value)


def settings_of(bundle: Bundle, report: Path) -> dict[str, Any]:
    """The settings that the networks were trained with, as MLflow's params."""
    records = read_training(report)
    settings: dict[str, Any] = {
        "arch": "+".join(record.arch for record in records),
        "image.size": bundle.info.image.size,
    }
    for record in records:
        prefix = "train" if len(records) == 1 else f"train.{record.arch}"
        own = record.config.model_dump()
        settings |= {f"{prefix}.{name}": value for name, value in own.items()}
    augment = records[0].policy.augment.model_dump()
    return settings | {f"augment.{name}": value for name, value in augment.items()}


def register(bundle: Path, report: Path, out: Path, config: RegisterConfig) -> None:
    """Register a bundle that passed the gate and write registration.json to `out`.

    Raises:
        BundleError: the bundle is incomplete or altered.
        GateError: the report is of another bundle, or its gate refused.
        RegistryError: the registry cannot be reached or used.
    """
    opened, metrics = open_bundle(bundle), read_metrics(report)
    if metrics.get("bundle_digest") != opened.digest:
        raise GateError(
            f"{report}: judges bundle {metrics.get('bundle_digest')}, {bundle} is {opened.digest}"
        )
    try:
        verify_seal(report, {METRICS_FILE, GATE_FILE})
    except SealError as error:
        raise GateError(f"the report was changed after evaluate wrote it: {error}") from error
    if read_gate(report).get("passed") is not True:
        raise GateError(f"{report / GATE_FILE}: the gate refused this bundle")
    try:
        client = connect()
        pack = sha256_file(report / MANIFEST_FILE)
        version = _version_of(client, config.model_name, opened.digest, pack)
        if version is None:
            tags = lineage_tags(client, opened, report, read_training(report))
            run_id = _log_run(client, config, opened, metrics, tags, report)
            version = _create_version(client, config, run_id, bundle, tags)
        client.set_registered_model_alias(config.model_name, CANDIDATE, version)
        registered = client.get_model_version(config.model_name, version)
    except MlflowException as error:
        raise RegistryError(f"{tracking_uri()}: {in_a_line(error)}") from error
    write_json(
        out / REGISTRATION_FILE,
        {
            "model_name": config.model_name,
            "version": version,
            "bundle_digest": opened.digest,
            "run_id": registered.run_id,
        },
    )
    print(f"register: {config.model_name} version {version} is now the {CANDIDATE} -> {out}")


def _version_of(client: MlflowClient, name: str, digest: str, pack: str) -> str | None:
    """The version of this bundle by this evidence: judged anew, a bundle is another version."""
    wanted = {BUNDLE_DIGEST_TAG: digest, PACK_SHA256_TAG: pack}
    versions = client.search_model_versions(f"name = '{name}'")
    found = [v.version for v in versions if wanted.items() <= v.tags.items()]
    return str(max(map(int, found))) if found else None


def _log_run(
    client: MlflowClient,
    config: RegisterConfig,
    bundle: Bundle,
    metrics: dict[str, Any],
    tags: dict[str, str],
    report: Path,
) -> str:
    """Log a finished run with figures, dataset and report; join Kubeflow's run if there is one."""
    run_id = os.environ.get("MLFLOW_RUN_ID") or _fresh_run(client, config, tags)
    history = pd.read_csv(report / HISTORY_FILE)
    start = client.get_run(run_id).info.start_time
    told = {group: figures for group, figures in metrics.items() if group not in _TABLES}
    logged = [Metric(name, value, start, 0) for name, value in flatten(told)] + [
        Metric(f"epoch/{row['network']}/{name}", float(row[name]), start, int(row["epoch"]))
        for row in history.to_dict("records")
        for name in history.columns.drop(["epoch", "network"])
    ]
    for name, value in tags.items():
        client.set_tag(run_id, name, value)
    client.log_batch(
        run_id,
        metrics=logged,
        params=[Param(name, str(value)) for name, value in settings_of(bundle, report).items()],
    )
    provenance = bundle.info.provenance
    data = dataset_of(provenance.dataset_sha256, {"code_commit": provenance.code_commit})
    context = [InputTag("mlflow.data.context", "training")]
    client.log_inputs(run_id, [DatasetInput(data._to_mlflow_entity(), context)])
    client.log_artifacts(run_id, str(report), REPORT_ARTIFACTS)
    for file in _FLOW_FILES:
        if file.is_file():
            client.log_artifact(run_id, str(file), FLOW_ARTIFACTS)
    client.set_terminated(run_id)
    return run_id


def _fresh_run(client: MlflowClient, config: RegisterConfig, tags: dict[str, str]) -> str:
    experiment = client.get_experiment_by_name(config.experiment)
    experiment_id = (
        experiment.experiment_id if experiment else client.create_experiment(config.experiment)
    )
    # What a killed registration of this evidence left has no version and never will.
    pack, digest = tags[PACK_SHA256_TAG], tags[BUNDLE_DIGEST_TAG]
    leftovers = client.search_runs([experiment_id], f"tags.`{PACK_SHA256_TAG}` = '{pack}'")
    for leftover in leftovers:
        client.delete_run(leftover.info.run_id)
    run = client.create_run(
        experiment_id, run_name=f"bundle {digest[:12]}", tags={PACK_SHA256_TAG: pack}
    )
    return str(run.info.run_id)


def _create_version(
    client: MlflowClient, config: RegisterConfig, run_id: str, bundle: Path, tags: dict[str, str]
) -> str:
    """Log the bundle as a model and register it; the version appears only when all is there."""
    experiment_id = client.get_run(run_id).info.experiment_id
    model = client.create_logged_model(
        experiment_id, name=config.model_name, source_run_id=run_id, tags=tags
    )
    client.log_model_artifacts(model.model_id, str(bundle))
    model = client.finalize_logged_model(model.model_id, "READY")
    try:
        client.create_registered_model(config.model_name)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
    created = client.create_model_version(
        config.model_name, model.model_uri, run_id, tags=tags, model_id=model.model_id
    )
    return str(created.version)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of the step."""
    parser = step_parser("register", "Register a bundle that passed the gate as the candidate.")
    parser.add_argument("--bundle", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--report", type=Path, required=True, help="folder of its report")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args(argv)
    run_or_exit(
        "register",
        lambda: register(
            args.bundle, args.report, args.out, read_section(args.params, RegisterConfig)
        ),
    )


if __name__ == "__main__":
    main()
