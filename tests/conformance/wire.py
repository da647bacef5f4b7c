"""The API in plain HTTP, for what must be right beneath any client."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Self

import requests

from .jobs import PATIENCE, SETTLING, changed

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
"""What follows the prefix of an id."""

_OVER = ("Completed", "Failed", "Stopped")


class Wire:
    """Plain exchanges with the node under test. Jobs that are submitted through it are stopped at the end.

    :param url: address without ``/api/v1``.
    :param publisher: what results are published to unless a job says otherwise.
    """

    def __init__(self, url: str, publisher: str) -> None:
        self._url = url
        self._publisher = publisher
        self._session = requests.Session()
        self._ids: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        deadline = time.monotonic() + SETTLING
        for job_id in self._ids:
            while not (over := self._is_over(job_id)) and time.monotonic() < deadline:
                time.sleep(0.02)
            if not over:
                self.call("DELETE", f"/orchestrator/jobs/{job_id}")
        self._session.close()

    def call(self, method: str, path: str, *, outside_api: bool = False, **options: Any) -> requests.Response:
        """One exchange; options are those of ``requests``.

        :param path: below ``/api/v1``, or below the server's root for what is outside the API.
        """
        url = self._url + ("" if outside_api else "/api/v1") + path
        return self._session.request(method, url, timeout=PATIENCE, allow_redirects=False, **options)

    def get(self, path: str, **query: Any) -> Any:
        """The JSON of a successful GET."""
        answer = self.call("GET", path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def submit(self, spec: Mapping[str, Any], method: str = "POST", **envelope: Any) -> dict[str, Any]:
        """Submit a job; the server's answer."""
        if "Publisher" not in spec["Tasks"][0]:
            spec = changed(spec, "Tasks", 0, "Publisher", to={"Type": self._publisher})
        answer = self.call(method, "/orchestrator/jobs", json={"Job": spec, **envelope})
        assert answer.status_code == 200, answer.text
        taken: dict[str, Any] = answer.json()
        self._ids.append(taken["JobID"])
        return taken

    def refusal(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Submit a job that must not be taken; the server's answer."""
        answer = self.call("POST", "/orchestrator/jobs", json={"Job": spec})
        assert not answer.ok, answer.text
        refused: dict[str, Any] = answer.json()
        return refused

    def until(self, job_id: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Look at a job until something holds of the answer, which has executions and history."""
        deadline = time.monotonic() + PATIENCE
        while True:
            answer: dict[str, Any] = self.get(f"/orchestrator/jobs/{job_id}", include="executions,history")
            if holds(answer):
                return answer
            assert time.monotonic() < deadline, f"still not so after {PATIENCE} s: {answer['Job']['State']}"
            time.sleep(0.05)

    def until_over(self, job_id: str) -> dict[str, Any]:
        """Look at a job until it is over."""
        return self.until(job_id, lambda answer: answer["Job"]["State"]["StateType"] in _OVER)

    def running(self, spec: Mapping[str, Any]) -> str:
        """Submit a job and wait until its program is certainly at work (see :meth:`Submitter.running`); its id."""
        job_id: str = self.submit(spec)["JobID"]
        self.until(job_id, lambda answer: answer["Job"]["State"]["StateType"] == "Running")
        time.sleep(SETTLING)
        return job_id

    def _is_over(self, job_id: str) -> bool:
        return self.get(f"/orchestrator/jobs/{job_id}")["Job"]["State"]["StateType"] in _OVER

    def finish(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Submit a job and wait until it is over; the answer, with executions and history."""
        return self.until_over(self.submit(spec)["JobID"])
