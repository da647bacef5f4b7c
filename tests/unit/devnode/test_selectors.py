"""Label selectors."""

from __future__ import annotations

import pytest

from airflow_provider_bacalhau.devnode.selectors import SelectorError, matches, parse_selector

LABELS = {"suite": "probe", "size": "5", "example.org/team": "a"}


@pytest.mark.parametrize(
    "selector",
    [
        "",
        "suite=probe",
        "suite==probe",
        "suite in (probe,other)",
        "suite notin (x)",
        "suite",
        "!nope",
        "suite!=x",
        "nope!=x",
        "nope notin (x)",
        "size>4",
        "size<6",
        "suite=probe,size",
        "example.org/team=a",
        " suite = probe , size > 1 ",
    ],
)
def test_these_selectors_match(selector: str) -> None:
    assert matches(parse_selector(selector), LABELS)


@pytest.mark.parametrize(
    "selector",
    ["suite=x", "nope", "!suite", "suite in (x,y)", "suite notin (probe)", "size>5", "suite>1", "nope<9", "nope="],
)
def test_these_selectors_do_not_match(selector: str) -> None:
    assert not matches(parse_selector(selector), LABELS)


def test_the_recorded_broken_selector_gets_the_recorded_answer() -> None:
    with pytest.raises(SelectorError, match=r"^unable to parse requirement: found '!=', expected: identifier$"):
        parse_selector("!!===")


@pytest.mark.parametrize(
    "selector", ["a=b=c", "a in b", "a in (b", "a b", "=x", "a>x", "a=-x", "-a=b", "a/b/c", ",a", "a,"]
)
def test_broken_selectors_are_refused(selector: str) -> None:
    with pytest.raises(SelectorError):
        parse_selector(selector)
