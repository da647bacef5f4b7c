"""Finding out what answers: harmless questions, and a version that says what the server can do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_bacalhau.client.dialects import versions
from airflow_provider_bacalhau.client.dialects.detection import detect_version
from airflow_provider_bacalhau.client.dialects.dialect import Dialect
from airflow_provider_bacalhau.client.dialects.orchestrator import OrchestratorDialect
from airflow_provider_bacalhau.client.dialects.requester import RequesterDialect
from airflow_provider_bacalhau.client.dialects.versions import ServerVersion
from airflow_provider_bacalhau.client.effects import Failure, Response, TransportError
from airflow_provider_bacalhau.client.errors import (
    BacalhauError,
    ConfigurationError,
    NotSupported,
    ServerUnavailable,
    UnexpectedAnswer,
    Unreachable,
)
from airflow_provider_bacalhau.client.operations import Operations
from airflow_provider_bacalhau.client.settings import ClientSettings
from tests.support.drive import Script, ok, refusal, version
from tests.support.requester import VERSIONS, exchange

NO_ROUTE = refusal(404, "404 page not found\n", content_type="text/plain")
AGENT = "GET /api/v1/agent/version"
OLD = "POST /version"
LIST = "POST /api/v1/requester/list"
DEV = "v0.0.0-xxxxxxx"


def old_version(text: str) -> Response:
    return ok({"build_version_info": {"gitversion": text}})


@pytest.mark.parametrize("name", VERSIONS)
def test_recorded_servers_are_recognised(name: str) -> None:
    script = Script.of(exchange(name, "probe /agent/version").response, exchange(name, "probe /version").response)
    assert script.run(detect_version()) == ServerVersion(name)
    assert script.lines == ([AGENT, OLD] if name < "v1.1" else [AGENT])


def test_every_question_is_harmless() -> None:
    script = Script.of(NO_ROUTE, old_version(DEV), ok({"jobs": []}))
    script.run(detect_version())
    assert script.lines == [AGENT, OLD, LIST]
    assert [request.repeatable or request.method == "GET" for request in script.requests] == [True] * 3
    assert [request.public for request in script.requests] == [True, True, False]
    assert json.loads(script.requests[1].body or b"") == {"client_id": ""}
    assert json.loads(script.requests[2].body or b"") == {"client_id": "", "max_jobs": 1}


# A build that names no version: what answers to the questions, and the version that it is like.
BUILDS: list[tuple[list[Response], tuple[int, int, int]]] = [
    ([version(DEV), ok({"jobs": []})], (1, 3, 2)),
    ([version(DEV), refusal(410, json.dumps("This endpoint is deprecated."))], (999, 0, 0)),
    ([version(DEV), NO_ROUTE], (999, 0, 0)),
    ([version(DEV), refusal(401, {"Message": "Request Unauthorized"})], (999, 0, 0)),
    ([version(DEV), refusal(500, {"Message": "missing authorization header"})], (999, 0, 0)),
    ([version(""), NO_ROUTE], (999, 0, 0)),
    ([version("unknown"), NO_ROUTE], (999, 0, 0)),
    ([NO_ROUTE, old_version(DEV), ok({"jobs": []})], (1, 0, 3)),
    ([NO_ROUTE, old_version(DEV), NO_ROUTE], (0, 3, 29)),
]


@pytest.mark.parametrize(("answers", "numbers"), BUILDS)
def test_a_build_without_a_version_is_known_by_what_it_serves(
    answers: list[Response], numbers: tuple[int, int, int]
) -> None:
    assert Script.of(*answers).run(detect_version()).numbers == numbers


NOT_BACALHAU: list[tuple[list[Response], str]] = [
    (
        [
            refusal(404, "<html>", content_type="text/html", server="nginx/1.24"),
            refusal(405, "<html>", content_type="text/html; charset=utf-8"),
        ],
        (
            "GET /api/v1/agent/version gave HTTP 404 with text/html from nginx/1.24,"
            " and POST /version gave HTTP 405 with text/html"
        ),
    ),
    (
        [NO_ROUTE, ok({"build_version_info": None})],
        "GET /api/v1/agent/version gave HTTP 404 with text/plain, and POST /version gave HTTP 200",
    ),
    (
        [Response(200, {"content-type": "text/html"}, b"<html>Welcome</html>")],
        "GET /api/v1/agent/version gave HTTP 200 with text/html",
    ),
    ([ok({"version": "7"})], "GET /api/v1/agent/version gave HTTP 200"),
]


@pytest.mark.parametrize(("answers", "said"), NOT_BACALHAU)
def test_what_is_not_bacalhau_is_described(answers: list[Response], said: str) -> None:
    with pytest.raises(UnexpectedAnswer) as raised:
        Script.of(*answers).run(detect_version())
    assert raised.value.message == f"What answers there is not the API of Bacalhau: {said}"
    assert "1234" in raised.value.hint


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refusal(503, "Server Timeout!"), ServerUnavailable),
        (refusal(302, location="https://login.example/"), UnexpectedAnswer),
        (TransportError(Failure.REFUSED, sent=False, detail="X, host"), Unreachable),
    ],
)
def test_a_server_that_does_not_say_is_not_guessed(
    answer: Response | TransportError, kind: type[BacalhauError]
) -> None:
    script = Script.of(answer)
    with pytest.raises(kind):
        script.run(detect_version())
    assert script.lines == [AGENT]


# -- which API --------------------------------------------------------------------------------------------------------


def spoken(api: str, *answers: Response) -> tuple[Dialect, Script]:
    operations = Operations(ClientSettings("http://127.0.0.1:1", api=api), lambda: 0.0)
    script = Script.of(*answers)
    dialect = script.run(operations.dialect())
    assert script.run(operations.dialect()) is dialect  # asked once
    return dialect, script


@pytest.mark.parametrize(
    ("api", "name", "kind"),
    [
        ("auto", "v1.9.3", OrchestratorDialect),
        ("auto", "v1.3.2", OrchestratorDialect),
        ("auto", "v1.1.0", OrchestratorDialect),
        ("auto", "v1.0.4", RequesterDialect),
        ("orchestrator", "v1.1.6", OrchestratorDialect),
        ("requester", "v1.1.6", RequesterDialect),
        ("requester", "v1.4.0", RequesterDialect),  # it can be switched on again there
    ],
)
def test_the_orchestrators_api_is_spoken_unless_the_connection_says_otherwise(
    api: str, name: str, kind: type[Dialect]
) -> None:
    assert type(spoken(api, version(name))[0]) is kind


@pytest.mark.parametrize("name", ["v0.3.26", "v1.0.3"])
def test_servers_without_the_orchestrators_api_are_spoken_to_in_theirs(name: str) -> None:
    assert type(spoken("auto", NO_ROUTE, old_version(name))[0]) is RequesterDialect


def test_an_api_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="auto, orchestrator, requester"):
        ClientSettings("http://127.0.0.1:1", api="graphql")


def test_an_api_that_the_server_does_not_have_is_named_with_the_remedy() -> None:
    with pytest.raises(NotSupported, match="only the requester API") as raised:
        spoken("orchestrator", NO_ROUTE, old_version("v1.0.3"))
    assert "`api`" in raised.value.hint


@pytest.mark.parametrize("api", ["auto", "requester", "orchestrator"])
def test_servers_that_are_too_old_are_named(api: str) -> None:
    with pytest.raises(NotSupported, match=r"Bacalhau v0\.3\.25") as raised:
        spoken(api, NO_ROUTE, old_version("v0.3.25"))
    assert "Upgrade" in raised.value.hint


# -- the tables -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("v0.3.26", ("/requester", "V1beta1", False, True, False, False, False)),
        ("v0.3.29", ("/requester", "V1beta1", False, True, False, False, False)),
        ("v1.0.0", ("/api/v1/requester", "V1beta1", False, True, False, False, False)),
        ("v1.0.4", ("/api/v1/requester", "V1beta2", True, True, True, False, True)),
        ("v1.2.1", ("/api/v1/requester", "V1beta2", True, True, True, False, True)),
        ("v1.2.2", ("/api/v1/requester", "V1beta2", True, False, True, True, True)),
        ("v1.3.2", ("/api/v1/requester", "V1beta2", True, False, True, True, True)),
    ],
)
def test_what_requester_servers_can(name: str, expected: tuple[Any, ...]) -> None:
    can = ServerVersion(name).requester
    found = (
        can.prefix, can.api_version, can.nodes, can.logs, can.limits_sorted, can.sorts_by_modified, can.cancels_twice
    )  # fmt: skip
    assert found == expected
    assert not can.unique_names


@pytest.mark.parametrize(
    ("name", "verifier", "resources_key", "source_path", "read_write", "s3_compress", "local_publisher"),
    [
        ("v0.3.29", True, "Resources", True, False, True, False),
        ("v1.0.3", True, "Resources", True, True, True, False),
        ("v1.0.4", False, "TotalAllocatedResources", False, True, True, False),
        ("v1.1.6", False, "Resources", True, True, True, False),
        ("v1.2.1", False, "Resources", True, True, True, False),
        ("v1.3.2", False, "Resources", True, True, False, True),
    ],
)
def test_how_requester_servers_want_a_job_written(
    name: str,
    verifier: bool,
    resources_key: str,
    source_path: bool,
    read_write: bool,
    s3_compress: bool,
    local_publisher: bool,
) -> None:
    shape = ServerVersion(name).requester.shape
    assert (shape.verifier, shape.resources_key, shape.source_path) == (verifier, resources_key, source_path)
    assert (shape.read_write, shape.s3_compress, shape.local_publisher) == (read_write, s3_compress, local_publisher)
    is_old = name in {"v0.3.29", "v1.0.3"}
    assert (shape.docker_parameters, shape.target_all) == (not is_old, not is_old)
    assert (shape.s3_version_id, shape.longest_timeout) == (is_old, 3600 if is_old else None)


@pytest.mark.parametrize(
    ("name", "included", "waits", "own_publisher"),
    [
        ("v1.1.0", False, False, False),
        ("v1.2.1", False, False, False),
        ("v1.2.2", True, False, False),
        ("v1.3.1", True, False, False),
        ("v1.3.2", True, True, False),
        ("v1.4.0", True, True, True),
        ("v1.9.3", True, True, True),
    ],
)
def test_what_orchestrators_before_1_4_can(name: str, included: bool, waits: bool, own_publisher: bool) -> None:
    can = ServerVersion(name).capabilities
    assert (can.included, can.waits_for_nodes, can.own_publisher) == (included, waits, own_publisher)


@pytest.mark.parametrize("name", versions.CHECKED)
def test_every_checked_version_serves_something(name: str) -> None:
    checked = ServerVersion(name)
    assert checked.is_release
    assert checked.has_orchestrator or checked.has_requester
    assert checked.requester.prefix
