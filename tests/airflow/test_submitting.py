"""What a task that submits a job shows: its value, XComs, log and errors, the same wherever it waits."""

from __future__ import annotations

import logging
import re
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_bacalhau.client import BacalhauClient
from airflow_provider_bacalhau.client.dialects.orchestrator import OrchestratorDialect
from airflow_provider_bacalhau.client.errors import Unreachable
from airflow_provider_bacalhau.operators.bacalhau import BacalhauSubmitJobOperator

from .conftest import Connect, Network
from .programs import PLAIN_RETURN, exits, sleeps
from .running import LOG, FakeTaskInstance, Ran, run_task

ROOMY = {"CPU": "100000"}
"""More processors than any node has."""


def submit(**arguments: Any) -> BacalhauSubmitJobOperator:
    return BacalhauSubmitJobOperator(**{"task_id": "task", "poll_interval": 0.2, **arguments})


def log_of(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in caplog.records if record.name == LOG.name)


def without_ids(text: str) -> str:
    return re.sub(r"\b(?:[jne]-)?[0-9a-f]{8}-[0-9a-f-]{27}|\be-[0-9a-f]{8}\b", "ID", text)


class TestAJobThatSucceeds:
    def test_gives_its_id_and_the_documented_xcoms(self, network: Network, deferrable: bool) -> None:
        ran = run_task(submit(job_spec=exits(0), deferrable=deferrable))
        assert ran.error is None
        assert re.fullmatch(r"j-[0-9a-f-]{36}", ran.value)
        assert {key: value for key, value in ran.xcoms.items() if key not in {"results", "cids"}} == {
            "bacalhau_job_id": ran.value,
            "job_url": f"{network.url}/api/v1/orchestrator/jobs/{ran.value}",
            "job_state": "Completed",
            "exit_codes": [0],
            "execution_counts": {"wanted": 1, "completed": 1, "succeeded": 1, "failed": 0},
        }

    def test_leaves_references_to_results_without_an_address(self, network: Network, deferrable: bool) -> None:
        ran = run_task(submit(job_spec=exits(0, publisher="local"), deferrable=deferrable))
        [execution] = network.client.executions(ran.value)
        assert ran.xcoms["results"] == [
            {"type": "url", "job_id": ran.value, "execution_id": execution.id, "index": 0},
        ]
        assert ran.xcoms["cids"] == ""

    def test_leaves_the_cids_of_what_it_published(self, network: Network, deferrable: bool) -> None:
        ran = run_task(submit(job_spec=exits(0, publisher="ipfs"), deferrable=deferrable))
        [reference] = ran.xcoms["results"]
        assert reference == {
            "type": "ipfs",
            "job_id": ran.value,
            "execution_id": network.client.executions(ran.value)[0].id,
            "cid": ran.xcoms["cids"],
        }
        assert ran.xcoms["cids"].startswith("Qm")

    def test_may_be_a_program_that_just_returns(self, network: Network, deferrable: bool) -> None:
        ran = run_task(submit(job_spec=exits(PLAIN_RETURN), deferrable=deferrable))
        assert ran.error is None
        assert ran.xcoms["exit_codes"] == [-1]

    def test_shows_the_output_in_one_group_of_the_log(
        self, network: Network, deferrable: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        run_task(submit(job_spec=exits(0), deferrable=deferrable))
        group = re.search(r"::group::Output of the job.*?\n(.*?)::endgroup::", log_of(caplog), re.DOTALL)
        assert group
        assert "stdout | hello from wasm code=0" in group[1]
        assert "stderr | warn: going to exit 0" in group[1]

    def test_names_its_results_in_the_log(
        self, network: Network, deferrable: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        ran = run_task(submit(job_spec=exits(0, publisher="ipfs"), deferrable=deferrable))
        assert f"Job {ran.value} succeeded; results: ipfs CID {ran.xcoms['cids']}." in log_of(caplog)

    def test_shows_no_output_when_told_so(
        self, network: Network, deferrable: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        run_task(submit(job_spec=exits(0), deferrable=deferrable, log_output=False))
        assert "hello from wasm" not in log_of(caplog)


class TestAJobThatFails:
    def test_tells_why(self, network: Network, deferrable: bool, caplog: pytest.LogCaptureFixture) -> None:
        ran = run_task(submit(job_spec=exits(3), deferrable=deferrable))
        assert str(ran.error) == (
            f"Job {ran.ti.job_id}: the program failed with exit code 3. "
            "Read its output; the exit code is the program's own."
        )
        assert {key: ran.xcoms[key] for key in ("job_state", "exit_codes", "failure_category")} == {
            "job_state": "Completed",
            "exit_codes": [3],
            "failure_category": "PROGRAM_FAILED",
        }
        assert "stderr | warn: going to exit 3" in log_of(caplog)

    def test_may_be_tried_again(self, network: Network, deferrable: bool) -> None:
        error = run_task(submit(job_spec=exits(3), deferrable=deferrable)).error
        assert isinstance(error, AirflowException)
        assert not isinstance(error, AirflowFailException)
        assert error.error.diagnosis.category == "PROGRAM_FAILED"

    def test_because_no_node_is_large_enough_says_so(self, network: Network, deferrable: bool) -> None:
        ran = run_task(submit(job_spec=exits(0, resources=ROOMY), deferrable=deferrable))
        assert ran.xcoms["failure_category"] == "NO_SUITABLE_NODE"
        assert ran.xcoms["job_state"] == "Failed"
        assert ran.xcoms["exit_codes"] == []

    def test_because_three_executions_found_one_node_says_so(self, network: Network, deferrable: bool) -> None:
        ran = run_task(submit(job_spec=exits(0, count=3), deferrable=deferrable))
        assert ran.xcoms["failure_category"] == "NO_SUITABLE_NODE"
        assert "suitable node" in str(ran.error)

    def test_because_it_queued_for_too_long_says_so(self, network: Network, deferrable: bool) -> None:
        ran = run_task(submit(job_spec=exits(0, resources=ROOMY), deferrable=deferrable, job_queue_timeout=1))
        assert ran.xcoms["failure_category"] == "QUEUE_TIMEOUT"

    def test_because_it_ran_for_too_long_says_so(self, network: Network, deferrable: bool) -> None:
        ran = run_task(submit(job_spec=sleeps(30), deferrable=deferrable, job_execution_timeout=timedelta(seconds=1)))
        assert ran.xcoms["failure_category"] == "EXECUTION_TIMEOUT"

    def test_because_somebody_stopped_it_says_so(self, network: Network, deferrable: bool) -> None:
        def stop(key: str, value: str) -> None:
            if key == "bacalhau_job_id":
                threading.Thread(target=network.client.stop, args=(value, "lunch")).start()

        ran = run_task(submit(job_spec=sleeps(30), deferrable=deferrable), FakeTaskInstance(on_push=stop))
        assert ran.xcoms["failure_category"] == "STOPPED_BY_OTHERS"
        assert ran.xcoms["job_state"] == "Stopped"


def test_both_modes_write_the_same_log(network: Network, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    logs, rans = [], []
    for deferrable in (False, True):
        caplog.clear()
        rans.append(run_task(submit(job_spec=exits(3), deferrable=deferrable)))
        # What they say while the job is on its way depends on when they looked, and so does the job's name.
        logs.append([without_ids(line) for line in log_of(caplog).splitlines() if not re.search(r" is |task-", line)])
    assert logs[0] == logs[1]
    assert without_ids(str(rans[0].error)) == without_ids(str(rans[1].error))
    assert rans[0].xcoms.keys() == rans[1].xcoms.keys()


def test_a_task_that_does_not_wait_is_done_once_the_job_is_submitted(network: Network, deferrable: bool) -> None:
    ran = run_task(submit(job_spec=sleeps(30), deferrable=deferrable, wait_for_completion=False))
    assert ran.xcoms.keys() == {"bacalhau_job_id", "job_url"}
    assert not network.client.get(ran.value).state.is_terminal
    network.client.stop(ran.value, "test is over")


def test_the_address_is_there_while_the_job_runs_whatever_do_xcom_push_says(network: Network, deferrable: bool) -> None:
    seen = []

    def look(key: str, value: str) -> None:
        if key == "job_url":
            seen.append((value, network.client.get(value.rpartition("/")[2]).state.is_terminal))

    run_task(submit(job_spec=sleeps(1), deferrable=deferrable, do_xcom_push=False), FakeTaskInstance(on_push=look))
    [(url, was_over)] = seen
    assert url.startswith(network.url)
    assert not was_over


def test_a_server_that_goes_away_right_after_the_submission_loses_no_job(
    network: Network, deferrable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, looks = OrchestratorDialect._get, []

    async def get(dialect: OrchestratorDialect, target: str) -> Any:
        looks.append(target)
        if len(looks) <= 2:
            raise Unreachable("No answer from the Bacalhau server.")
        return await real(dialect, target)

    def go_away(key: str, value: str) -> None:
        if key == "job_url":
            monkeypatch.setattr(OrchestratorDialect, "_get", get)

    ran = run_task(submit(job_spec=exits(0), deferrable=deferrable), FakeTaskInstance(on_push=go_away))
    assert ran.error is None
    assert len(looks) > 2


@pytest.mark.parametrize("broken", ["xcom", "look"])
def test_a_surprise_after_the_submission_stops_the_job_and_goes_on_as_it_was(
    network: Network, deferrable: bool, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    async def get(dialect: OrchestratorDialect, job_id: str, **wanted: Any) -> Any:
        raise RuntimeError("no such thing")

    with monkeypatch.context() as patched:

        def push(key: str, value: str) -> None:
            if key == "job_url" and broken == "xcom":
                raise RuntimeError("no such thing")
            if key == "job_url":
                patched.setattr(OrchestratorDialect, "get", get)

        ran = run_task(submit(job_spec=sleeps(60), deferrable=deferrable), FakeTaskInstance(on_push=push))
    assert isinstance(ran.error, RuntimeError)
    assert str(ran.error) == "no such thing"
    assert network.state(ran.ti.job_id) == "Stopped"


def test_a_server_that_cannot_show_the_job_is_told_to_stop_it_when_no_other_try_follows(
    network: Network, deferrable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def get(dialect: OrchestratorDialect, job_id: str, **wanted: Any) -> Any:
        raise Unreachable("No answer from the Bacalhau server.", hint="Check it.")

    with monkeypatch.context() as patched:

        def go_away(key: str, value: str) -> None:
            if key == "job_url":
                patched.setattr(OrchestratorDialect, "get", get)

        operator = submit(job_spec=sleeps(60), deferrable=deferrable, poll_interval=0.1)
        ran = run_task(operator, FakeTaskInstance(on_push=go_away))
    assert re.search(rf"Check it\. Job {ran.ti.job_id} may still be running; .* 10 times in \d+ s\.", str(ran.error))
    assert not isinstance(ran.error, AirflowFailException)
    assert ran.xcoms["failure_category"] == "UNREACHABLE"
    assert network.state(ran.ti.job_id) == "Stopped"


class TestTimeout:
    def test_stops_the_job_and_tells_where_it_stood(self, network: Network, deferrable: bool) -> None:
        ran = run_task(submit(job_spec=sleeps(60), deferrable=deferrable, timeout=1.5))
        assert re.match(rf"Job {ran.ti.job_id} was not over in time: it is Running after \d s", str(ran.error))
        assert str(ran.error).endswith(
            "The task's timeout of 1.5 s has passed, and the job was stopped. Raise timeout=… if the job needs longer."
        )
        assert not isinstance(ran.error, AirflowFailException)
        assert network.state(ran.ti.job_id) == "Stopped"

    def test_is_told_as_other_failures_are(
        self, network: Network, deferrable: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        ran = run_task(submit(job_spec=sleeps(60), deferrable=deferrable, timeout=timedelta(seconds=1)))
        assert {key: ran.xcoms[key] for key in ("job_state", "exit_codes", "failure_category")} == {
            "job_state": "Stopped",
            "exit_codes": [],
            "failure_category": "WAIT_TIMEOUT",
        }
        assert "WAIT_TIMEOUT: Job " in log_of(caplog)
        assert "timeout of 1 s has passed" in log_of(caplog)

    def test_says_so_when_the_job_could_not_be_stopped(
        self, network: Network, deferrable: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stop(client: Any, job_id: str, reason: str) -> Any:
            raise Unreachable("No answer from the Bacalhau server.")

        with monkeypatch.context() as patched:
            patched.setattr(BacalhauClient, "stop", stop)
            ran = run_task(submit(job_spec=sleeps(60), deferrable=deferrable, timeout=1))
        assert "the job may run on, as it could not be stopped" in str(ran.error)
        assert ran.xcoms["job_state"] == "Running"
        network.client.stop(ran.ti.job_id, "test is over")

    @pytest.mark.parametrize(
        ("limits", "sent"),
        [
            ({}, {"TotalTimeout": 7 * 24 * 3600}),
            ({"timeout": 60}, {"TotalTimeout": 180}),
            ({"timeout": timedelta(minutes=1)}, {"TotalTimeout": 180}),
            ({"job_total_timeout": 50, "timeout": 60}, {"TotalTimeout": 50}),
            ({"job_queue_timeout": 5}, {"TotalTimeout": 7 * 24 * 3600, "QueueTimeout": 5}),
            (
                {"timeout": 10, "job_queue_timeout": 500, "job_execution_timeout": 500},
                {"TotalTimeout": 1120, "QueueTimeout": 500, "ExecutionTimeout": 500},
            ),
        ],
    )
    def test_sets_the_servers_own_limit_a_little_later(
        self, network: Network, limits: dict[str, Any], sent: dict[str, int]
    ) -> None:
        ran = run_task(submit(job_spec=exits(0), wait_for_completion=False, **limits))
        [task] = network.sent(ran.value)["Tasks"]
        assert {key: value for key, value in task["Timeouts"].items() if value} == sent


class TestKilling:
    def kill_soon(self, operator: Any) -> FakeTaskInstance:
        """Airflow calls on_kill from a signal handler, and raises nothing in the task."""

        def kill(key: str, value: str) -> None:
            if key == "job_url":
                threading.Timer(0.3, operator.on_kill).start()

        return FakeTaskInstance(on_push=kill)

    def test_stops_the_job_and_ends_the_task(self, network: Network) -> None:
        operator = submit(job_spec=sleeps(60), poll_interval=60)
        start = time.monotonic()
        ran = run_task(operator, self.kill_soon(operator))
        assert time.monotonic() - start < 30
        assert isinstance(ran.error, AirflowException)
        assert network.state(ran.ti.job_id) == "Stopped"

    def test_leaves_the_job_when_told_so(self, network: Network) -> None:
        operator = submit(job_spec=sleeps(60), cancel_on_kill=False)
        ran = run_task(operator, self.kill_soon(operator))
        assert str(ran.error) == (
            f"The task was killed while it waited for job {ran.ti.job_id}; it runs on, as cancel_on_kill is off."
        )
        assert not network.client.get(ran.ti.job_id).state.is_terminal
        network.client.stop(ran.ti.job_id, "test is over")

    def test_before_there_is_a_job_stops_nothing(self) -> None:
        submit(job_spec=exits(0)).on_kill()

    def test_by_control_c_stops_the_job(self, network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
        operator = submit(job_spec=sleeps(60))

        def interrupt(job: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(operator, "_log_state", interrupt)
        ti = FakeTaskInstance()
        with pytest.raises(KeyboardInterrupt):
            run_task(operator, ti)
        assert network.state(ti.job_id) == "Stopped"


class TestNames:
    def name_of(self, network: Network, ti: FakeTaskInstance | None = None, **arguments: Any) -> str:
        ran = run_task(submit(wait_for_completion=False, **{"job_spec": exits(0), **arguments}), ti)
        assert ran.error is None
        name: str = network.sent(ran.value)["Name"]
        return name

    @pytest.mark.parametrize(
        ("arguments", "readable"),
        [
            ({}, "task"),
            ({"name": "Count the words"}, "count-the-words"),
            ({"job_spec": exits(0, name="from-spec")}, "from-spec"),
            ({"job_spec": exits(0, name="same"), "name": "same"}, "same"),
            ({"name": ""}, "task"),
        ],
    )
    def test_begin_with_what_a_person_recognises(
        self, network: Network, arguments: dict[str, Any], readable: str
    ) -> None:
        assert re.fullmatch(rf"{readable}-[0-9a-f]{{16}}-[0-9a-f]{{10}}-0", self.name_of(network, **arguments))

    def test_that_differ_between_task_and_specification_are_refused(self, network: Network) -> None:
        ran = run_task(submit(job_spec=exits(0, name="one"), name="other"))
        assert isinstance(ran.error, AirflowFailException)
        assert "'other'" in str(ran.error)
        assert "'one'" in str(ran.error)
        assert ran.xcoms.keys() == {"failure_category"}  # and no job

    def test_differ_between_mapped_tasks_runs_and_clears_of_equal_jobs(self, network: Network) -> None:
        run_id = f"run-{time.time_ns()}"
        instances = [
            FakeTaskInstance(run_id=run_id),
            FakeTaskInstance(run_id=run_id, map_index=0),
            FakeTaskInstance(run_id=run_id, map_index=1),
            FakeTaskInstance(run_id=run_id, max_tries=1, try_number=2),
            FakeTaskInstance(run_id=f"{run_id}-other"),
            FakeTaskInstance(run_id=run_id, dag_id="another"),
        ]
        names = {self.name_of(network, ti, name="equal") for ti in instances}
        assert len(names) == len(instances)

    def test_differ_when_the_job_does_so_that_no_job_restarts_another(self, network: Network) -> None:
        assert self.name_of(network, env={"A": "1"}) != self.name_of(network, env={"A": "2"})

    def test_of_one_attempt_are_the_same_in_each_try(self, network: Network) -> None:
        tries = [FakeTaskInstance(run_id="same", max_tries=1, try_number=number) for number in (1, 2)]
        assert len({self.name_of(network, ti) for ti in tries}) == 1


class TestNamespace:
    @pytest.mark.parametrize(
        ("operator", "spec", "connection", "expected"),
        [
            ("one", "two", "three", "one"),
            (None, "two", "three", "two"),
            (None, None, "three", "three"),
            (None, None, None, "default"),
            ("", None, "", "default"),
        ],
    )
    def test_is_that_of_operator_then_specification_then_connection(
        self,
        network: Network,
        connect: Connect,
        operator: str | None,
        spec: str | None,
        connection: str | None,
        expected: str,
    ) -> None:
        connect(network.url, extra={"namespace": connection})
        job_spec = exits(0, namespace=spec) if spec else exits(0)
        ran = run_task(submit(job_spec=job_spec, namespace=operator, wait_for_completion=False))
        assert network.sent(ran.value)["Namespace"] == expected


class TestEnvironment:
    def test_is_added_to_that_of_the_specification(self, network: Network) -> None:
        job_spec = exits(0, env={"KEPT": "1", "REPLACED": "1"})
        ran = run_task(submit(job_spec=job_spec, env={"REPLACED": "2", "NEW": 3}, wait_for_completion=False))
        # v1.9 keeps a WebAssembly program's environment with the task.
        assert network.sent(ran.value)["Tasks"][0]["Env"] == {"KEPT": "1", "REPLACED": "2", "NEW": "3"}


class TestRefusals:
    """What would fail again fails for good, before anything is sent."""

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"job_spec": exits(0, type="service")}, "service job runs until it is stopped"),
            ({"job_spec": exits(0, type="daemon")}, "daemon job runs until it is stopped"),
            ({"job_spec": {"Taks": []}}, "Tasks"),
            ({"job_spec": exits(0), "env": {"lower": "1"}}, "lower"),
            ({"job_spec": exits(0), "inputs": ["ipfs://Qmnonsense"]}, "inputs[0]"),
            ({"job_spec": exits(0), "timeout": -1}, "timeout: is -1"),
            ({"job_spec": exits(0), "timeout": 0}, "timeout: is 0"),
            ({"job_spec": exits(0), "timeout": "5s"}, "timeout: is '5s'"),
            ({"job_spec": exits(0), "poll_interval": 0}, "poll_interval: is 0"),
            ({"job_spec": exits(0), "poll_interval": "5"}, "poll_interval: is '5'"),
            ({"job_spec": exits(0), "job_execution_timeout": "2s"}, "job_execution_timeout: is '2s'"),
            ({"job_spec": exits(0), "name": 3}, "name: must be text"),
        ],
    )
    def test_of_what_is_wrong_name_the_place(self, network: Network, arguments: dict[str, Any], words: str) -> None:
        ran = run_task(submit(**arguments))
        assert isinstance(ran.error, AirflowFailException)
        assert words in str(ran.error)
        assert ran.xcoms.keys() == {"failure_category"}  # and no job

    def test_do_not_touch_a_service_that_nobody_waits_for(self, network: Network) -> None:
        ran = run_task(submit(job_spec=sleeps(30, type="service"), wait_for_completion=False))
        assert network.sent(ran.value)["Type"] == "service"
        network.client.stop(ran.value, "test is over")

    def test_of_an_undefined_connection_are_final(self, airflow_database: None) -> None:
        ran = run_task(submit(job_spec=exits(0), bacalhau_conn_id="nowhere"))
        assert isinstance(ran.error, AirflowFailException)
        assert "'nowhere' is not defined" in str(ran.error)


def test_a_server_that_is_away_may_be_back_for_the_next_try(
    connect: Connect, unused_port: int, impatient: None
) -> None:
    connect("127.0.0.1", port=unused_port)
    ran: Ran = run_task(submit(job_spec=exits(0)))
    assert isinstance(ran.error, AirflowException)
    assert not isinstance(ran.error, AirflowFailException)
