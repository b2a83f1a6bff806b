"""What works on the audit database beside the evaluator: a migration, and retention.

Both run as the evaluator's service, whose identity may reach the database.
"""

from __future__ import annotations

from typing import Any

from components.audit.access import FOLDER, Access, mounts, volumes
from components.evaluator.pod import injected, labels
from components.pods import container_security, metadata, pod_security, resources, with_digest
from components.settings import StackSettings
from zt.bundle import Bundle
from zt.model import Service

SCHEMA = "zt-audit-schema"
_SCHEMA_FILE, _SCHEMA_FOLDER = "schema.sql", "/etc/zt/schema"
MIGRATION, RETENTION = "zt-audit-migration", "zt-audit-retention"


def schema_manifest(bundle: Bundle, service: Service) -> dict[str, Any]:
    """The compiled schema."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(SCHEMA, service.namespace),
        "data": {_SCHEMA_FILE: _schema(bundle)},
    }


def migration_manifest(
    bundle: Bundle, settings: StackSettings, service: Service, access: Access
) -> dict[str, Any]:
    """The Job that applies the schema; another schema makes another Job."""
    arguments = [f"--schema={_SCHEMA_FOLDER}/{_SCHEMA_FILE}", f"--admin={FOLDER}/admin"]
    arguments.append(f"--writer={FOLDER}/writer")
    arguments += [f"--keeper={FOLDER}/keeper"] if access.keeper else []
    arguments += ["--create-logins"] if access.create else []
    pod = _pod(settings, service, "migration", ["engine.audit.migrate", *arguments])
    dsns = {"admin": access.admin, "writer": access.writer, "keeper": access.keeper}
    pod["spec"]["volumes"] = [
        *volumes(dsns),
        {"name": "schema", "configMap": {"name": SCHEMA}},
    ]
    (container,) = pod["spec"]["containers"]
    schema = {"name": "schema", "mountPath": _SCHEMA_FOLDER, "readOnly": True}
    container["volumeMounts"].append(schema)
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(MIGRATION, service.namespace),
        # The first time it waits for the database, for its own certificate and for the evaluator.
        "spec": {"backoffLimit": 20, "template": _meshed(bundle, settings, service, access, pod)},
    }
    return with_digest(job, _schema(bundle))


def retention_manifest(
    bundle: Bundle, settings: StackSettings, service: Service, access: Access
) -> dict[str, Any]:
    """Drops each night what need no longer be kept."""
    arguments = ["engine.audit.retain", f"--keeper={FOLDER}/keeper"]
    pod = _pod(settings, service, "retention", arguments)
    pod["spec"]["volumes"] = volumes({"keeper": access.keeper})
    job = {
        "backoffLimit": 4,
        "activeDeadlineSeconds": 3600,
        "template": _meshed(bundle, settings, service, access, pod),
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": metadata(RETENTION, service.namespace),
        "spec": {
            "schedule": "17 3 * * *",
            "timeZone": "Etc/UTC",
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": 3600,
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {"metadata": {"labels": metadata(RETENTION)["labels"]}, "spec": job},
        },
    }


def _pod(
    settings: StackSettings, service: Service, component: str, module: list[str]
) -> dict[str, Any]:
    container = {
        "name": component,
        "image": settings.images.evaluator,
        "command": ["python", "-m", *module],
        "resources": resources("50m", "64Mi", "256Mi"),
        "securityContext": container_security(),
        "volumeMounts": list(mounts()),
    }
    return {
        "metadata": {"labels": labels(service, component)},
        "spec": {
            "serviceAccountName": service.account,
            "automountServiceAccountToken": False,
            "restartPolicy": "OnFailure",
            "securityContext": pod_security(),
            "containers": [container],
        },
    }


def _meshed(
    bundle: Bundle, settings: StackSettings, service: Service, access: Access, pod: dict[str, Any]
) -> dict[str, Any]:
    return injected(bundle, settings, service, pod) if access.meshed else pod


def _schema(bundle: Bundle) -> str:
    return bundle.file("audit/schema.sql").text()
