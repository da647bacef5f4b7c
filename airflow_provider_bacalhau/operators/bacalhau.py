"""Submit jobs to a Bacalhau network, take their results, stop them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowException, BaseOperator, conf

from airflow_provider_bacalhau.exceptions import translated
from airflow_provider_bacalhau.hooks.bacalhau import DEFAULT_CONN_ID, BacalhauHook
from airflow_provider_bacalhau.links.bacalhau import BacalhauJobLink
from airflow_provider_bacalhau.operators.results import BacalhauGetResultsOperator
from airflow_provider_bacalhau.preparation import Limits, Wait, name_job, prepare
from airflow_provider_bacalhau.reporting import (
    describe_results,
    push_job,
    push_results,
    report_outcome,
    report_timeout,
)
from airflow_provider_bacalhau.templates import read_template_file
from airflow_provider_bacalhau.triggers.bacalhau import BacalhauJobTrigger, check_event

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_bacalhau.client import BacalhauClient, Job
    from airflow_provider_bacalhau.client.errors import WaitTimeout

__all__ = ["BacalhauGetResultsOperator", "BacalhauStopJobOperator", "BacalhauSubmitJobOperator"]

_SURPRISE = "The Airflow task failed while it waited."


class BacalhauSubmitJobOperator(BaseOperator):
    """Submits a job and waits until it has succeeded; the task fails, with a diagnosis, unless it has.

    "Succeeded" means that the wanted number of executions completed and every program ended with exit code 0 (a
    WebAssembly program may also simply return). The return value is the job's id. XComs pushed beside it:
    ``bacalhau_job_id`` and ``job_url`` right after submitting; ``job_state`` and ``exit_codes`` once the job is over;
    then ``results`` and ``cids``, or ``failure_category``.

    :param job_spec: the job: a dict, YAML or JSON text, or the name of a template file (one line that ends in
        ``.yaml``, ``.yml`` or ``.json``); see also ``docker_job`` and ``wasm_job``. The ``Spec`` of the old requester
        API, as DAGs for ``bacalhau-airflow`` have it, does as well. (templated)
    :param inputs: what to mount into it: ``ipfs://CID[/path]``, ``s3://bucket/key``, ``https://…``, ``file:///path``, a
        bare CID, each with or without ``:/mount`` at its end, an InputSource as a dict, or the result of another task
        of this provider: ``inputs=a.output`` or ``inputs=[a.output, b.output]`` chains jobs. (templated)
    :param input_volumes: ``"<cid>[,<cid>…]:<mount>"``, as in ``bacalhau-airflow``; ``inputs`` can do more. (templated)
    :param api_version: accepted for DAGs of ``bacalhau-airflow``, which give ``V1beta1`` or ``V1beta2``; without
        effect, since the server and the spec tell what they are.
    :param name: readable part of the job's name; the rest of it belongs to this attempt of the task. By default the
        spec's own name, or the task's id. (templated)
    :param namespace: namespace to run in; by default the spec's, then the connection's, then ``default``. (templated)
    :param env: environment variables, added to those of the spec. Whoever may read the job can read them: they are no
        place for secrets. (templated)
    :param wait_for_completion: whether to wait for the job; if not, the task succeeds once it is submitted.
    :param deferrable: whether to wait in the triggerer instead of a worker.
    :param poll_interval: seconds or timedelta between two looks at a job that is older than a minute; younger ones are
        looked at more often.
    :param timeout: seconds or timedelta after which the wait ends, the job is stopped, and the task fails; counted from
        the submission, whatever is restarted meanwhile. None waits for as long as the job takes.
    :param job_queue_timeout: how long the job may wait for a suitable node; without it a job that no node can take just
        now fails at once.
    :param job_execution_timeout: how long one execution of it may run.
    :param job_total_timeout: how long it may take altogether, enforced by the server. By default two minutes more than
        ``timeout``, or seven days.
    :param cancel_on_kill: whether to stop the job when the task is killed.
    :param log_output: whether to show the beginning of the job's stdout and stderr in the task's log.
    :param bacalhau_conn_id: id of the connection, see ``docs/connection.md``. (templated)
    """

    template_fields: Sequence[str] = (
        "job_spec",
        "inputs",
        "input_volumes",
        "name",
        "namespace",
        "env",
        "bacalhau_conn_id",
    )
    template_fields_renderers = {"job_spec": "json", "inputs": "json", "input_volumes": "json", "env": "json"}  # noqa: RUF012  # as Airflow's own
    operator_extra_links = (BacalhauJobLink(),)
    ui_color = "#d9ecff"

    def __init__(
        self,
        *,
        job_spec: Mapping[str, Any] | str,
        inputs: Any = None,
        input_volumes: Sequence[str] = (),
        api_version: str | None = None,
        name: str | None = None,
        namespace: str | None = None,
        env: Mapping[str, Any] | None = None,
        wait_for_completion: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float | timedelta = 5.0,
        timeout: float | timedelta | None = None,
        job_queue_timeout: float | timedelta | None = None,
        job_execution_timeout: float | timedelta | None = None,
        job_total_timeout: float | timedelta | None = None,
        cancel_on_kill: bool = True,
        log_output: bool = True,
        bacalhau_conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job_spec = job_spec
        self.inputs = inputs
        self.input_volumes = input_volumes
        self.api_version = api_version
        self.name = name
        self.namespace = namespace
        self.env = env
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.job_queue_timeout = job_queue_timeout
        self.job_execution_timeout = job_execution_timeout
        self.job_total_timeout = job_total_timeout
        self.cancel_on_kill = cancel_on_kill
        self.log_output = log_output
        self.bacalhau_conn_id = bacalhau_conn_id
        self.job_id: str | None = None
        self.job_url: str | None = None  # for the link
        self._wants_inputs = inputs is not None
        self._client: BacalhauClient | None = None
        self._is_killed = False

    def _do_render_template_fields(
        self, parent: Any, template_fields: Any, context: Context, jinja_env: Any, seen_oids: set[int]
    ) -> None:
        # Not by template_ext: that reads every nested text of every template field that ends in .yaml or .json.
        if parent is self and id(self.job_spec) not in seen_oids:  # what came through an XCom is never a file's name
            self.job_spec = read_template_file(self.job_spec, jinja_env)
        super()._do_render_template_fields(parent, template_fields, context, jinja_env, seen_oids)

    def execute(self, context: Context) -> str:
        """Submit the job; wait for it here, or hand over to the triggerer."""
        self.job_id = None
        hook = BacalhauHook(self.bacalhau_conn_id)
        with translated():
            wait = Wait.checked(self.poll_interval, self.timeout)
        with translated(), hook.get_conn() as self._client:
            with self._stopped_on_surprise(self._client):
                job_id = self._submit(context, hook, self._client)
                if not self.wait_for_completion:
                    return job_id
                if self.deferrable:
                    is_over = self._is_over(self._client, job_id)
                else:
                    is_over = self._wait(context, self._client, job_id, wait)
            if is_over:
                return self._finish(context, self._client, job_id)
            if not self.deferrable:
                raise AirflowException(f"The task was killed while it waited for job {job_id}.")
        self.defer(
            trigger=BacalhauJobTrigger(
                job_id=job_id,
                bacalhau_conn_id=self.bacalhau_conn_id,
                poll_interval=wait.poll_interval,
                deadline=wait.deadline,
            ),
            method_name="execute_complete",
        )
        return job_id

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> str:
        """Come back from the triggerer and judge the job."""
        from airflow_provider_bacalhau.client.errors import WaitTimeout, WatchFailed

        told = check_event(event)
        self.job_id = told["job_id"]
        hook = BacalhauHook(self.bacalhau_conn_id)
        with translated(), hook.get_conn() as self._client:
            self.job_url = hook.settings.job_url(self.job_id)
            if told["status"] == "timeout":
                self._give_up(context, self._client, self.job_id, WaitTimeout(told["message"]))
            if told["status"] == "failed":
                if told["permanent"]:  # else the server is away, as far as anyone knows
                    self._stop(self._client, self.job_id, _SURPRISE)
                raise WatchFailed(told["message"], permanent=told["permanent"])
            return self._finish(context, self._client, self.job_id)

    def on_kill(self) -> None:
        """Stop the job: one short request, since Airflow ends the process five seconds later."""
        self._is_killed = True  # Airflow 3 raises nothing in the task: the wait has to see it
        if self.job_id is None or self._client is None:
            return
        if not self.cancel_on_kill:
            self.log.info("The task is killed; job %s runs on, as cancel_on_kill is off.", self.job_id)
            return
        self._stop(self._client, self.job_id, "The Airflow task was killed.")

    def _submit(self, context: Context, hook: BacalhauHook, client: BacalhauClient) -> str:
        from airflow_provider_bacalhau.client.spec import require_waitable

        spec = prepare(
            client,
            self.job_spec,
            folder=self._folder(),
            # None that was not there from the beginning is a task's result that is missing.
            inputs=self.inputs if self._wants_inputs else (),
            input_volumes=self.input_volumes,
            env=self.env,
            limits=Limits(self.timeout, self.job_queue_timeout, self.job_execution_timeout, self.job_total_timeout),
        )
        if self.wait_for_completion:
            require_waitable(spec)
        spec = name_job(
            spec, context, name=self.name, namespace=self.namespace, default_namespace=hook.settings.namespace
        )
        submission = client.submit_once(spec)
        self.job_id = submission.job_id
        self.job_url = push_job(context, hook, submission.job_id)
        self.log.info(
            "Job %s (%s) %s: %s",
            submission.job_id,
            spec.name,
            "was submitted before" if submission.adopted else "submitted",
            hook.settings.job_url(submission.job_id),
        )
        return submission.job_id

    def _folder(self) -> Path:
        return Path(self.dag.fileloc).parent if self.has_dag() else Path.cwd()

    @contextmanager
    def _stopped_on_surprise(self, client: BacalhauClient) -> Iterator[None]:
        """Stop a job that an unforeseen error would leave to run with nobody waiting for it."""
        from airflow_provider_bacalhau.client.errors import ServerUnavailable, Unreachable, WaitTimeout

        try:
            yield
        except (ServerUnavailable, Unreachable, WaitTimeout):  # nobody there to tell; or told by _give_up
            raise
        except Exception:  # whatever it is, it goes on as it was
            if self.job_id is not None and not self._is_killed:  # of a kill's job, on_kill has decided
                try:
                    self._stop(client, self.job_id, _SURPRISE)
                except Exception:  # what broke the wait may break this as well, and must not be hidden by it
                    self.log.warning("Job %s may run on; it could not be stopped.", self.job_id, exc_info=True)
            raise

    def _wait(self, context: Context, client: BacalhauClient, job_id: str, wait: Wait) -> bool:
        """Wait; whether the job is over, which only a kill prevents."""
        from airflow_provider_bacalhau.client.errors import WaitTimeout

        try:
            job = client.wait(
                job_id,
                poll_interval=wait.poll_interval,
                deadline=wait.deadline,
                on_change=self._log_state,
                is_cancelled=lambda: self._is_killed,
            )
        except WaitTimeout as error:
            if self._is_killed:
                raise
            self._give_up(context, client, job_id, error)
        except KeyboardInterrupt:  # dag.test() and `airflow tasks test`: nobody else calls on_kill there
            self.on_kill()
            raise
        return job.state.is_terminal

    def _is_over(self, client: BacalhauClient, job_id: str) -> bool:
        """Look once; whether the job is over already."""
        from airflow_provider_bacalhau.client.errors import ServerUnavailable, Unreachable

        try:
            return client.get(job_id).state.is_terminal
        except (ServerUnavailable, Unreachable) as error:  # the trigger waits for the server, and then knows
            self.log.warning("Cannot look at job %s just now: %s", job_id, error)
            return False

    def _log_state(self, job: Job) -> None:
        self.log.info("Job %s is %s.", job.id, job.state.value)

    def _finish(self, context: Context, client: BacalhauClient, job_id: str) -> str:
        report_outcome(context, client.outcome(job_id), self.log, log_output=self.log_output)
        references = push_results(context, client, job_id)
        self.log.info("Job %s succeeded; results: %s.", job_id, describe_results(references))
        return job_id

    def _give_up(self, context: Context, client: BacalhauClient, job_id: str, error: WaitTimeout) -> NoReturn:
        """Stop the job, and fail in the way of every job that did not succeed."""
        from airflow_provider_bacalhau.client.spec.timeouts import check_seconds

        given = "" if self.timeout is None else f" of {check_seconds(self.timeout, 'timeout'):.10g} s"
        stopped = self._stop(client, job_id, "The Airflow task's timeout has passed.")
        report_timeout(
            context,
            client,
            job_id,
            f"{error.message} The task's timeout{given} has passed, and {stopped}.",
            self.log,
            log_output=self.log_output,
        )

    def _stop(self, client: BacalhauClient, job_id: str, reason: str) -> str:
        """Stop the job; what came of it, in words for a message."""
        from airflow_provider_bacalhau.client.errors import BacalhauError

        try:
            outcome = client.stop_quickly(job_id, reason)
        except BacalhauError as error:
            self.log.warning("Job %s may run on; it could not be stopped: %s", job_id, error)
            return "the job may run on, as it could not be stopped"
        self.log.info("Job %s: %s.", job_id, outcome.value)
        return f"the job was {outcome.value}"


class BacalhauStopJobOperator(BaseOperator):
    """Stops the job that it is given; returns what came of it, such as ``stopped`` or ``already completed``.

    :param job_id: id of the job. (templated)
    :param reason: why; kept in the job's history.
    :param namespace: namespace of the job, when ``job_id`` is a name and not an id. (templated)
    :param ignore_missing: whether a job that the network does not know is all right.
    :param bacalhau_conn_id: id of the connection. (templated)
    """

    template_fields: Sequence[str] = ("job_id", "namespace", "bacalhau_conn_id")
    ui_color = "#d9ecff"

    def __init__(
        self,
        *,
        job_id: str,
        reason: str = "Stopped by an Airflow task.",
        namespace: str | None = None,
        ignore_missing: bool = False,
        bacalhau_conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        self.reason = reason
        self.namespace = namespace
        self.ignore_missing = ignore_missing
        self.bacalhau_conn_id = bacalhau_conn_id

    def execute(self, context: Context) -> str:
        """Stop the job."""
        from airflow_provider_bacalhau.client.errors import NotFound
        from airflow_provider_bacalhau.client.facts import StopOutcome

        with translated(), BacalhauHook(self.bacalhau_conn_id).get_conn() as client:
            outcome = client.stop(self.job_id, self.reason, namespace=self.namespace or "")
            if outcome is StopOutcome.NOT_FOUND and not self.ignore_missing:
                raise NotFound(
                    f"There is no job {self.job_id} to stop.",
                    hint="Check the id, or set ignore_missing=True if it may be gone.",
                )
        self.log.info("Job %s: %s.", self.job_id, outcome.value)
        return outcome.value
