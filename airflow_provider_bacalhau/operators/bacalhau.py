"""Submit jobs to a Bacalhau network, take their results, stop them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from airflow.providers.common.compat.sdk import AirflowException, BaseOperator, conf

from airflow_provider_bacalhau.exceptions import translated
from airflow_provider_bacalhau.hooks.bacalhau import DEFAULT_CONN_ID, BacalhauHook
from airflow_provider_bacalhau.links.bacalhau import BacalhauJobLink
from airflow_provider_bacalhau.operators.results import BacalhauGetResultsOperator
from airflow_provider_bacalhau.operators.stop import BacalhauStopJobOperator
from airflow_provider_bacalhau.reporting import push_job, reporting_failure
from airflow_provider_bacalhau.templates import read_template_file
from airflow_provider_bacalhau.triggers.bacalhau import BacalhauJobTrigger, check_event, error_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_bacalhau.attempts import Attempt, ClaimedJob
    from airflow_provider_bacalhau.client import BacalhauClient, Job
    from airflow_provider_bacalhau.client.naming import Claim
    from airflow_provider_bacalhau.judging import Case
    from airflow_provider_bacalhau.preparation import Draft, Rules

__all__ = ["BacalhauGetResultsOperator", "BacalhauStopJobOperator", "BacalhauSubmitJobOperator"]

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
            case = self._case(attempt)
            return self._follow(case, case.claim_job())

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> str:
        """Come back from the triggerer and judge the job."""
        from airflow_provider_bacalhau.client.errors import WaitTimeout

        ended = check_event(event)
        with translated(), reporting_failure(context, self), self._attempting(context, ended["job_id"]) as attempt:
            case = self._case(attempt)
            self.job_url = attempt.hook.settings.job_url(ended["job_id"])
            if (error := error_of(ended)) is None:
                outcome = case.outcome()
                is_hopeless = ended["status"] == "hopeless"
                older = attempt.has_older_job(outcome.job)
                job = self._claim_own(case) if older else case.judge(outcome, is_hopeless=is_hopeless)
            elif attempt.has_older_job():
                job = self._claim_own(case)
            elif isinstance(error, WaitTimeout):
                job = case.give_up(error)
            else:
                raise error
            return self._follow(case, job)

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
        from airflow_provider_bacalhau.attempts import Attempt

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

    def _case(self, attempt: Attempt) -> Case:
        """Read how the task treats its job; what job that is, is read where one is claimed.

        :raises InvalidJobSpec: naming the argument that cannot be.
        """
        from airflow_provider_bacalhau.judging import Case
        from airflow_provider_bacalhau.preparation import Rules, Wait, check_flags

        check_flags(
            wait_for_completion=self.wait_for_completion,
            deferrable=self.deferrable,
            allow_missing_results=self.allow_missing_results,
            fail_fast=self.fail_fast,
            durable=self.durable,
            cancel_on_kill=self.cancel_on_kill,
            log_output=self.log_output,
        )
        rules = Rules.checked(
            wait=Wait.checked(self.poll_interval, self.timeout),
            success_policy=self.success_policy,
            allow_missing_results=self.allow_missing_results,
            skip_on_exit_code=self.skip_on_exit_code,
            no_retry_on_exit_code=self.no_retry_on_exit_code,
            on_existing=self.on_existing,
            log_output=self.log_output,
        )
        return Case(attempt, rules, lambda: self._wanted(attempt, rules))

    def _wanted(self, attempt: Attempt, rules: Rules) -> tuple[Claim, Draft]:
        """Read which job the task asks for, and whose it is."""
        from airflow_provider_bacalhau.client.spec import require_waitable
        from airflow_provider_bacalhau.preparation import Limits, check_count, claim_for, draft

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
        default = attempt.hook.settings.namespace
        claim = claim_for(attempt.owner, wanted, name=self.name, namespace=self.namespace, default_namespace=default)
        return claim, wanted

    def _claim_own(self, case: Case) -> ClaimedJob:
        """Have this attempt's job: after a clear Airflow may hand over the event of an older attempt's trigger."""
        self.log.info("Job %s is not the one that this attempt waits for.", self.job_id)
        self.job_url = None
        return case.claim_job(thorough=True)

    def _follow(self, case: Case, job: ClaimedJob | None) -> str:
        """Wait for the job, here or in the triggerer, and judge it; then the job that takes its place, if one does."""
        while job is not None:
            self._announce(case.attempt, job)
            if not self.wait_for_completion:
                return job.job_id
            deadline = case.rules.wait.deadline(job.age)
            if not self.deferrable:
                job = self._wait(case, deadline)
            elif self._is_over(case.attempt.client, job.job_id):
                job = case.judge(case.outcome())
            else:
                case.attempt.refuse_if_killed(f"before it was deferred{case.attempt.after_kill}")
                self._hand_over(case, job.job_id, deadline)
        return case.attempt.required_job_id

    def _announce(self, attempt: Attempt, job: ClaimedJob) -> None:
        self.job_id = job.job_id
        self.job_url = push_job(attempt.context, attempt.hook, job.job_id)
        self.log.info("Job %s (%s) %s: %s", job.job_id, job.name, job.how, self.job_url)

    def _wait(self, case: Case, deadline: float | None) -> ClaimedJob | None:
        from airflow_provider_bacalhau.client.errors import JobHopeless, WaitTimeout

        attempt, is_hopeless = case.attempt, False
        try:
            attempt.client.wait(
                attempt.required_job_id,
                poll_interval=case.rules.wait.poll_interval,
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
                return case.give_up(error)
        if attempt.is_killed:
            raise AirflowException(
                f"The task was killed while it waited for job {attempt.required_job_id}{attempt.after_kill}."
            )
        return case.judge(case.outcome(), is_hopeless=is_hopeless)

    def _log_state(self, job: Job) -> None:
        self.log.info("Job %s is %s", job.id, job.standing)

    def _is_over(self, client: BacalhauClient, job_id: str) -> bool:
        """Look once; whether the job is over already."""
        from airflow_provider_bacalhau.client.errors import NotFound, ServerUnavailable, UnexpectedAnswer, Unreachable

        try:
            return client.get(job_id).state.is_terminal
        except (NotFound, ServerUnavailable, UnexpectedAnswer, Unreachable) as error:  # the trigger waits, and knows
            self.log.warning("Cannot look at job %s just now: %s", job_id, error)
            return False

    def _hand_over(self, case: Case, job_id: str, deadline: float | None) -> None:
        """Go on in the triggerer: this process is done with the task.

        :raises TaskDeferred: always.
        """
        trigger = BacalhauJobTrigger(
            job_id=job_id,
            bacalhau_conn_id=self.bacalhau_conn_id,
            poll_interval=case.rules.wait.poll_interval,
            deadline=deadline,
            fail_fast=self.fail_fast,
            kill_reason=case.attempt.owner.kill_reason if self.cancel_on_kill else None,
        )
        self.defer(trigger=trigger, method_name="execute_complete", timeout=trigger.net)
