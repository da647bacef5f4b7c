"""Submit jobs to a Bacalhau network, take their results, stop them."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from airflow.providers.common.compat.sdk import AirflowException, BaseOperator, conf

from airflow_provider_bacalhau.attempts import Attempt, ClaimedJob
from airflow_provider_bacalhau.exceptions import translated
from airflow_provider_bacalhau.hooks.bacalhau import DEFAULT_CONN_ID, BacalhauHook
from airflow_provider_bacalhau.links.bacalhau import BacalhauJobLink
from airflow_provider_bacalhau.operators.results import BacalhauGetResultsOperator
from airflow_provider_bacalhau.operators.stop import BacalhauStopJobOperator
from airflow_provider_bacalhau.preparation import Draft, Limits, Rules, Wait, check_count, check_flags, claim_for, draft
from airflow_provider_bacalhau.reporting import (
    describe_results,
    push_job,
    push_results,
    report_missing_results,
    report_outcome,
    reporting_failure,
    timed_out,
)
from airflow_provider_bacalhau.templates import read_template_file
from airflow_provider_bacalhau.triggers.bacalhau import BacalhauJobTrigger, check_event, error_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_bacalhau.client import BacalhauClient, Job
    from airflow_provider_bacalhau.client.diagnosis import JobOutcome
    from airflow_provider_bacalhau.client.errors import WaitTimeout
    from airflow_provider_bacalhau.client.naming import Claim

__all__ = ["BacalhauGetResultsOperator", "BacalhauStopJobOperator", "BacalhauSubmitJobOperator"]

GRACE: Final = 60.0
"""Seconds by which Airflow's own limit of a wait lies beyond the trigger's."""

_ENDED_BY_AIRFLOW: Final = "__fail__"


class BacalhauSubmitJobOperator(BaseOperator):
    """Submits a job and waits until it has succeeded; the task fails, with a diagnosis, unless it has.

    "Succeeded" means that the wanted number of executions completed and every program ended with exit code 0 (a
    WebAssembly program may also simply return). The return value is the job's id. XComs pushed beside it:
    ``bacalhau_job_id`` and ``job_url`` right after submitting; ``job_state``, ``exit_codes`` and ``execution_counts``
    once the job is over; then ``results`` and ``cids``, or ``failure_category``.

    A task has one job: a retry goes on with the job of the try before, unless that failed; clearing the task runs it
    again. What happens on retry, clear, kill, restart and edit is in ``docs/reliability.md``.

    :param job_spec: the job: a dict, YAML or JSON text, or the name of a template file (one line that ends in
        ``.yaml``, ``.yml`` or ``.json``); see also ``docker_job`` and ``wasm_job``. The ``Spec`` of the old requester
        API, as DAGs for ``bacalhau-airflow`` have it, does as well. A value that changes with each try, such as the
        present time, makes each try another job. (templated)
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
        the submission, whatever is restarted or retried meanwhile. None waits for as long as the job takes.
    :param job_queue_timeout: how long the job may wait for a suitable node; without it a job that no node can take just
        now fails at once.
    :param job_execution_timeout: how long one execution of it may run.
    :param job_total_timeout: how long it may take altogether, enforced by the server. By default two minutes more than
        ``timeout``, or seven days.
    :param success_policy: how many executions have to succeed: ``"all"`` that the job's ``Count`` asks for, ``"any"``,
        or at least this many.
    :param allow_missing_results: whether a job may succeed although it kept no results where a publisher was asked for.
    :param skip_on_exit_code: exit code or codes that make the task skipped instead of failed.
    :param no_retry_on_exit_code: exit code or codes after which the task is not tried again.
    :param fail_fast: whether to stop a job, and fail, as soon as it has failed on every node that could run it; servers
        let it queue until its queue timeout.
    :param on_existing: what to do when the task's earlier job is alive and the DAG asks for another one now:
        ``"replace"`` stops it, ``"adopt"`` goes on with it, ``"fail"`` fails the task.
    :param durable: whether a retry goes on with the job of the try before; if not, each try has a job of its own.
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
        success_policy: Literal["all", "any"] | int = "all",
        allow_missing_results: bool = False,
        skip_on_exit_code: int | Collection[int] | None = None,
        no_retry_on_exit_code: int | Collection[int] | None = None,
        fail_fast: bool = True,
        on_existing: Literal["replace", "adopt", "fail"] = "replace",
        durable: bool = True,
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
        self.success_policy = success_policy
        self.allow_missing_results = allow_missing_results
        self.skip_on_exit_code = skip_on_exit_code
        self.no_retry_on_exit_code = no_retry_on_exit_code
        self.fail_fast = fail_fast
        self.on_existing = on_existing
        self.durable = durable
        self.cancel_on_kill = cancel_on_kill
        self.log_output = log_output
        self.bacalhau_conn_id = bacalhau_conn_id
        self.job_id: str | None = None
        self.job_url: str | None = None  # for the link
        self._wants_inputs = inputs is not None
        self._attempt: Attempt | None = None

    def _do_render_template_fields(
        self, parent: Any, template_fields: Any, context: Context, jinja_env: Any, seen_oids: set[int]
    ) -> None:
        # Not by template_ext: that reads every nested text of every template field that ends in .yaml or .json.
        if parent is self and id(self.job_spec) not in seen_oids:  # what came through an XCom is never a file's name
            self.job_spec = read_template_file(self.job_spec, jinja_env)
        super()._do_render_template_fields(parent, template_fields, context, jinja_env, seen_oids)

    def execute(self, context: Context) -> str:
        """Have the job; wait for it here, or hand over to the triggerer."""
        with translated(), reporting_failure(context, self), self._attempting(context) as attempt:
            rules = self._rules()
            return self._follow(attempt, rules, self._claim_job(attempt, rules))

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> str:
        """Come back from the triggerer and judge the job."""
        from airflow_provider_bacalhau.client.errors import WaitTimeout

        ended = check_event(event)
        with translated(), reporting_failure(context, self), self._attempting(context, ended["job_id"]) as attempt:
            rules = self._rules()
            if attempt.has_older_job():  # Airflow may hand over the event of an older attempt's trigger after a clear
                self.log.info("Job %s is not the one that this attempt waits for.", ended["job_id"])
                return self._follow(attempt, rules, self._claim_job(attempt, rules, thorough=True))
            self.job_url = attempt.hook.settings.job_url(ended["job_id"])
            error = error_of(ended)
            if isinstance(error, WaitTimeout):
                return self._give_up(attempt, rules, error)
            if error is not None:
                raise error
            return self._finish(attempt, rules, is_hopeless=ended["status"] == "hopeless")

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Come back from the triggerer; when Airflow itself ended the wait, not without a thought for the job."""
        if next_method != _ENDED_BY_AIRFLOW:
            return super().resume_execution(next_method, next_kwargs, context)
        with self._attempting(context) as attempt:
            attempt.may_have_job = True
            return super().resume_execution(next_method, next_kwargs, context)

    def on_kill(self) -> None:
        """Stop the job: in little time, since Airflow ends the process five seconds later."""
        if self._attempt is not None:
            self._attempt.kill(stops=self.cancel_on_kill)

    @contextmanager
    def _attempting(self, context: Context, job_id: str | None = None) -> Iterator[Attempt]:
        """One leg of the task; however it breaks off, the job is not forgotten."""
        self.job_id, self.job_url = job_id, None
        hook = BacalhauHook(self.bacalhau_conn_id)
        with hook.get_conn() as client:
            self._attempt = attempt = Attempt(context, hook, client, self.log, durable=self.durable, job_id=job_id)
            try:
                yield attempt
            except KeyboardInterrupt:  # dag.test() and `airflow tasks test`: nobody else calls on_kill there
                self.on_kill()
                raise
            except Exception as error:  # whatever it is, it goes on as it was
                attempt.break_off(error)
                raise

    def _rules(self) -> Rules:
        check_flags(
            wait_for_completion=self.wait_for_completion,
            deferrable=self.deferrable,
            allow_missing_results=self.allow_missing_results,
            fail_fast=self.fail_fast,
            durable=self.durable,
            cancel_on_kill=self.cancel_on_kill,
            log_output=self.log_output,
        )
        return Rules.checked(
            wait=Wait.checked(self.poll_interval, self.timeout),
            success_policy=self.success_policy,
            allow_missing_results=self.allow_missing_results,
            skip_on_exit_code=self.skip_on_exit_code,
            no_retry_on_exit_code=self.no_retry_on_exit_code,
            on_existing=self.on_existing,
        )

    def _claim_job(self, attempt: Attempt, rules: Rules, *, thorough: bool = False) -> ClaimedJob:
        wanted = self._draft(rules)
        job = attempt.claim_job(self._claim(attempt, wanted), wanted.complete, rules, thorough=thorough)
        return self._announced(attempt, job)

    def _announced(self, attempt: Attempt, job: ClaimedJob) -> ClaimedJob:
        self.job_id = job.job_id
        self.job_url = push_job(attempt.context, attempt.hook, job.job_id)
        self.log.info("Job %s (%s) %s: %s", job.job_id, job.name, job.how, self.job_url)
        return job

    def _follow(self, attempt: Attempt, rules: Rules, job: ClaimedJob, *, again: bool = False) -> str:
        """Wait for the job, here or in the triggerer, and judge it.

        :param again: whether it is already the second one, as the first was stopped for an earlier try.
        """
        if not self.wait_for_completion:
            return job.job_id
        deadline = rules.wait.deadline(job.age)
        if not self.deferrable:
            return self._wait(attempt, rules, deadline, again=again)
        if self._is_over(attempt.client, job.job_id):
            return self._finish(attempt, rules, again=again)
        self.defer(
            trigger=BacalhauJobTrigger(
                job_id=job.job_id,
                bacalhau_conn_id=self.bacalhau_conn_id,
                poll_interval=rules.wait.poll_interval,
                deadline=deadline,
                fail_fast=self.fail_fast,
                kill_reason=attempt.owner.kill_reason if self.cancel_on_kill else None,
            ),
            method_name="execute_complete",
            # Airflow's own limit is the net, for when no triggerer is left to see the deadline pass.
            timeout=None if deadline is None else timedelta(seconds=max(0.0, deadline - time.time()) + GRACE),
        )
        return job.job_id

    def _draft(self, rules: Rules) -> Draft:
        from airflow_provider_bacalhau.client.spec import require_waitable

        wanted = draft(
            self.job_spec,
            folder=Path(self.dag.fileloc).parent if self.has_dag() else Path.cwd(),
            # None that was not there from the beginning is a task's result that is missing.
            inputs=self.inputs if self._wants_inputs else (),
            input_volumes=self.input_volumes,
            env=self.env,
            limits=Limits(self.timeout, self.job_queue_timeout, self.job_execution_timeout, self.job_total_timeout),
        )
        if self.wait_for_completion:
            require_waitable(wanted.spec)
        check_count(rules.success_policy, wanted.spec)
        return wanted

    def _claim(self, attempt: Attempt, wanted: Draft) -> Claim:
        default = attempt.hook.settings.namespace
        return claim_for(attempt.owner, wanted, name=self.name, namespace=self.namespace, default_namespace=default)

    def _wait(self, attempt: Attempt, rules: Rules, deadline: float | None, *, again: bool) -> str:
        from airflow_provider_bacalhau.client.errors import JobHopeless, WaitTimeout

        is_hopeless, job_id = False, attempt.required_job_id
        try:
            attempt.client.wait(
                job_id,
                poll_interval=rules.wait.poll_interval,
                deadline=deadline,
                on_change=self._log_state,
                is_cancelled=lambda: attempt.is_killed,
                is_known=True,
                fail_fast=self.fail_fast,
            )
        except JobHopeless:
            is_hopeless = True
        except WaitTimeout as error:
            if not attempt.is_killed:
                return self._give_up(attempt, rules, error)
        if attempt.is_killed:
            raise AirflowException(f"The task was killed while it waited for job {job_id}{attempt.after_kill}.")
        return self._finish(attempt, rules, is_hopeless=is_hopeless, again=again)

    def _is_over(self, client: BacalhauClient, job_id: str) -> bool:
        """Look once; whether the job is over already."""
        from airflow_provider_bacalhau.client.errors import NotFound, ServerUnavailable, UnexpectedAnswer, Unreachable

        try:
            return client.get(job_id).state.is_terminal
        except (NotFound, ServerUnavailable, UnexpectedAnswer, Unreachable) as error:  # the trigger waits, and knows
            self.log.warning("Cannot look at job %s just now: %s", job_id, error)
            return False

    def _log_state(self, job: Job) -> None:
        self.log.info("Job %s is %s", job.id, job.standing)

    def _finish(self, attempt: Attempt, rules: Rules, *, is_hopeless: bool = False, again: bool = False) -> str:
        """Judge a job that is over, or that nothing can run any more."""
        from airflow_provider_bacalhau.client.errors import JobFailed

        job_id = attempt.required_job_id
        outcome = attempt.client.outcome(job_id, policy=rules.success_policy)
        if not outcome.job.state.is_terminal and (outcome.is_alive or not is_hopeless):  # it has come to life again
            return self._follow(attempt, rules, self._claim_job(attempt, rules, thorough=True), again=again)
        if not outcome.job.state.is_terminal:
            outcome = self._ended(attempt, rules, outcome)
        if not again and (another := self._replacement(attempt, rules, outcome.job)) is not None:
            return self._follow(attempt, rules, another, again=True)
        attempt.is_settled = True
        try:
            report_outcome(attempt.context, outcome, self.log, log_output=self.log_output, excused=rules.skipped)
        except JobFailed as error:
            error.permanent = error.permanent or rules.is_final(outcome)
            raise
        references = push_results(attempt.context, attempt.client, job_id)
        if not references and not rules.allow_missing_results:
            report_missing_results(outcome)
        self.log.info("Job %s succeeded; results: %s.", job_id, describe_results(references))
        return job_id

    @staticmethod
    def _ended(attempt: Attempt, rules: Rules, outcome: JobOutcome) -> JobOutcome:
        """What came of a job that nothing can run any more, once it is stopped."""
        from airflow_provider_bacalhau.client.diagnosis import JobOutcome
        from airflow_provider_bacalhau.client.states import JobState

        stopping = attempt.stop("It has failed on every node that could run it.")
        if stopping.came_too_late:
            return attempt.client.outcome(attempt.required_job_id, policy=rules.success_policy)
        judged = JobOutcome.of(outcome.job, rules.success_policy, is_hopeless=True)
        return judged if stopping.outcome is None else replace(judged, job=replace(judged.job, state=JobState.STOPPED))

    def _replacement(self, attempt: Attempt, rules: Rules, job: Job) -> ClaimedJob | None:
        """What takes the place of a job that was stopped by this task itself: for an earlier try, or beside another."""
        from airflow_provider_bacalhau.client.claims import EXTRA_JOB
        from airflow_provider_bacalhau.client.diagnosis import stop_reason
        from airflow_provider_bacalhau.client.states import JobState

        if job.state is not JobState.STOPPED or attempt.is_settled:
            return None
        reason = stop_reason(job)
        if attempt.owner.was_killed_before(reason):
            self.log.info("Job %s was stopped when an earlier try of this task was killed.", job.id)
            return self._claim_job(attempt, rules, thorough=True)
        if reason and EXTRA_JOB not in reason:
            return None
        # Requester servers from v1.0.4 on keep no reason: then another job of this attempt tells.
        another = attempt.find_job(self._claim(attempt, self._draft(rules)), rules)
        return None if another is None else self._announced(attempt, another)

    def _give_up(self, attempt: Attempt, rules: Rules, error: WaitTimeout) -> str:
        """Stop the job, and fail in the way of every job that did not succeed; unless it has just ended by itself."""
        given = "" if rules.wait.timeout is None else f" of {rules.wait.timeout:.10g} s"
        stopping = attempt.stop_and_show_tail("The Airflow task's timeout has passed.")
        if stopping.came_too_late:
            return self._finish(attempt, rules)
        attempt.is_settled = True
        raise timed_out(
            attempt.context,
            attempt.client,
            attempt.required_job_id,
            f"{error.message} The task's timeout{given} has passed, and {stopping.words}.",
            self.log,
            log_output=self.log_output,
        )
