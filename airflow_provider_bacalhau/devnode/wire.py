"""Records as the JSON of the orchestrator API, key by key as each version writes them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from airflow_provider_bacalhau.devnode.compute import ENGINES, ComputeNode
from airflow_provider_bacalhau.devnode.emulation import NEWEST, Emulation
from airflow_provider_bacalhau.devnode.inputs import STORAGES
from airflow_provider_bacalhau.devnode.publishers import PUBLISHERS
from airflow_provider_bacalhau.devnode.records import SECOND, Execution, HistoryItem, Job

_SPEC_KEYS = ("Name", "Namespace", "Type", "Priority", "Count", "Constraints", "Meta", "Labels", "Tasks")


def timestamp(nanoseconds: int) -> str:
    """RFC 3339 in UTC with the fraction that there is."""
    seconds, fraction = divmod(nanoseconds, SECOND)
    whole = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    digits = f"{fraction:09d}".rstrip("0")
    return f"{whole}.{digits}Z" if digits else f"{whole}Z"


def job_json(job: Job, emulation: Emulation = NEWEST) -> dict[str, Any]:
    """A job. Versions of jobs are counted since names are unique."""
    return {
        "ID": job.id,
        **{key: job.spec[key] for key in _SPEC_KEYS},
        "State": _state(job.state.value, job.message if emulation.history_events else ""),
        "Version": job.version if emulation.unique_names else 0,
        "Revision": job.revision,
        "CreateTime": job.created,
        "ModifyTime": job.modified,
    }


def execution_json(execution: Execution, base: str, emulation: Emulation = NEWEST) -> dict[str, Any]:
    """An execution; some versions put in the whole job as it was when the execution was made."""
    job, output = execution.job, execution.output
    shown: dict[str, Any] = {
        "ID": execution.id,
        "Namespace": job.namespace,
        "EvalID": execution.eval_id,
        "Name": "",
        "NodeID": execution.node_id,
        "JobID": job.id,
        **({"Job": job_json(job, emulation)} if emulation.embeds_jobs else {}),
        **({"JobVersion": job.version} if emulation.unique_names else {}),
        "AllocatedResources": {"Tasks": {}},
        "DesiredState": _state(int(execution.desired), execution.desired_message),
        "ComputeState": _state(int(execution.state), execution.message),
        "PublishedResult": result_json(execution.published, base) or {"Type": ""},
        "RunOutput": {
            "Stdout": output.stdout,
            "StdoutTruncated": output.stdout_truncated,
            "stderr": output.stderr,
            "StderrTruncated": output.stderr_truncated,
            "ExitCode": output.exit_code,
            "ErrorMsg": "",
        },
        "PreviousExecution": "",
        "NextExecution": "",
        "FollowupEvalID": "",
    }
    if execution.partition:
        shown["PartitionIndex"] = execution.partition
    return {
        **shown,
        "Revision": execution.revision,
        "CreateTime": execution.created,
        "ModifyTime": execution.modified,
    }


def result_json(published: Mapping[str, Any], base: str) -> dict[str, Any]:
    """A published result; addresses on this node get its scheme, host and port, which may change with a restart."""
    if not published:
        return {}
    params = dict(published["Params"])
    if str(params.get("URL", "")).startswith("/"):
        params["URL"] = base + params["URL"]
    return {"Type": published["Type"], "Params": params}


def history_json(item: HistoryItem, emulation: Emulation = NEWEST) -> dict[str, Any]:
    """An event of a job's history."""
    event: dict[str, Any] = {
        "Message": item.event.message,
        "Topic": item.event.topic,
        "Timestamp": timestamp(item.event.at),
    }
    if item.event.details:
        event["Details"] = dict(item.event.details)
    shown: dict[str, Any] = {
        "SeqNum": item.seq,
        "Type": "ExecutionLevel" if item.execution_id else "JobLevel",
        "JobID": item.job_id,
        **({"JobVersion": item.job_version} if emulation.unique_names else {}),
    }
    if item.execution_id:
        shown["ExecutionID"] = item.execution_id
    return {**shown, "Event": event, "Time": timestamp(item.event.at)}


def node_info_json(node: ComputeNode, emulation: Emulation = NEWEST) -> dict[str, Any]:
    """What a node says of itself."""
    view = node.view()
    running, enqueued = node.counts()
    is_peer = emulation.agent_shape == "peer"
    name = {"PeerInfo": {"ID": node.id, "Addrs": []}} if is_peer else {"NodeID": node.id}
    queue = {} if is_peer else {"QueueCapacity": view.queued.as_json()}
    return {
        **name,
        "NodeType": "Compute",
        "Labels": dict(sorted(node.labels.items())),
        **({"SupportedProtocols": ["bprotocol/v2", "ncl/v1"]} if emulation.has_config else {}),
        "ComputeNodeInfo": {
            "ExecutionEngines": list(ENGINES),
            "Publishers": list(PUBLISHERS),
            "StorageSources": list(STORAGES),
            "MaxCapacity": view.capacity.as_json(),
            **queue,
            "AvailableCapacity": view.available.as_json(),
            "MaxJobRequirements": view.capacity.as_json(),
            "RunningExecutions": running,
            "EnqueuedExecutions": enqueued,
            **({"address": ""} if emulation.has_config else {}),
        },
        "BacalhauVersion": node.workshop.emulation.build_info,
    }


def node_state_json(node: ComputeNode, connected: int, now: int, emulation: Emulation = NEWEST) -> dict[str, Any]:
    """A node as the orchestrator knows it."""
    known: dict[str, Any] = {
        "Info": node_info_json(node, emulation),
        "Membership": "APPROVED",
        "Connection": "CONNECTED",
    }
    if emulation.connection_state:
        known["ConnectionState"] = {
            "Status": "CONNECTED",
            "LastHeartbeat": timestamp(now),
            "ConnectedSince": timestamp(connected),
            "DisconnectedSince": "0001-01-01T00:00:00Z",
        }
    return known


def _state(kind: str | int, message: str) -> dict[str, Any]:
    return {"StateType": kind, "Message": message} if message else {"StateType": kind}
