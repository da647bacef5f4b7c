from __future__ import annotations

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_bacalhau.client.errors import InvalidJobSpec
from airflow_provider_bacalhau.client.spec.text import MAX_SIZE, load_text, plain


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1", {"a": 1}),
        ('{"a": 1}', {"a": 1}),
        ("{a: 1, b: [x, y],}", {"a": 1, "b": ["x", "y"]}),
        ("a: 0.5", {"a": 0.5}),
        ("a: true\nb: False", {"a": True, "b": False}),
        ("a:\nb: ~\nc: null", {"a": None, "b": None, "c": None}),
        ("a: None", {"a": "None"}),
        ('a: "1"', {"a": "1"}),
        ('{"a": "\\ud83d\\ude00"}', {"a": "😀"}),
        ("a: |\n  two\n  lines\n", {"a": "two\nlines\n"}),
    ],
)
def test_yaml_and_json_are_read(text: str, value: object) -> None:
    assert load_text(text) == value


@pytest.mark.parametrize(
    "scalar",
    ["on", "yes", "NO", "12:30", "1:20:30", "010", "1.10", "1e3", "0x1F", "1_000", "2024-01-01", "+1", ".5", "="],
)
def test_what_yaml_1_1_would_change_stays_the_text_that_it_is(scalar: str) -> None:
    assert load_text(f"a: {scalar}") == {"a": scalar}


@pytest.mark.parametrize("key", ["on", "yes", "NO", "12:30", "2024-01-01"])
def test_keys_that_yaml_1_1_would_change_are_text(key: str) -> None:
    assert load_text(f"{key}: a") == {key: "a"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("# only a comment", "empty"),
        ("a: &x [1]\nb: *x", "Line 2 .* alias `\\*x`"),
        ("a: !!python/object/apply:os.system [ls]", "Line 1 .* tag"),
        ("a:\n  b: !secret x", "Line 2 .* tag"),
        ("a: 1\nb: 2\na: 3", "Line 3 .* key `a` was given before, on line 1"),
        ('{"a": 1,\n "a": 2}', "Line 2 .* key `a` was given before, on line 1"),
        ("a: 1\n---\nb: 2", "Line 2 .* second document"),
        ("true: 1", "Line 1 .* `true` is not. Put it in quotes"),
        ("a:\n  1: x", "Line 2 .* `1` is not. Put it in quotes"),
        ("? [a, b]\n: 1", "a collection is not"),
        ("a: [1", "cannot be read as YAML or JSON: line [12]"),
        ('{"a": 1', "cannot be read as YAML or JSON"),
        ("a: b: c", "line 1, column 5"),
        ("a: \x07", "cannot be read as YAML or JSON"),
        ("[" * 100, "nested more than 64 levels"),
        ("{a: " * 100 + "}" * 100, "nested more than 64 levels"),
    ],
)
def test_what_could_harm_or_mislead_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(InvalidJobSpec, match=message):
        load_text(text)


def test_a_bomb_of_aliases_is_refused_before_anything_is_built() -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
    with pytest.raises(InvalidJobSpec, match="alias"):
        load_text(bomb)


def test_a_text_of_very_many_values_is_refused_before_anything_is_built() -> None:
    with pytest.raises(InvalidJobSpec, match="holds more than 100000 values"):
        load_text("a: [" + "1," * 200_000 + "1]")


def test_json_nested_too_deep_is_refused() -> None:
    with pytest.raises(InvalidJobSpec, match="nested more than 64 levels"):
        load_text('{"a": ' * 100_000 + "1" + "}" * 100_000)


def test_a_text_larger_than_any_request_is_refused_unread() -> None:
    with pytest.raises(InvalidJobSpec, match="10 MB at most"):
        load_text("a: " + "x" * MAX_SIZE)


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner))
)
def test_json_means_the_same_however_it_is_read(value: object) -> None:
    assert load_text(json.dumps({"value": value})) == {"value": value}


def test_plain_values_are_what_json_knows() -> None:
    assert plain({"a": (1, [2.5, None]), "b": timedelta(seconds=1.2)}) == {"a": [1, [2.5, None]], "b": 2}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": {1: 2}}, "^a: a key must be text, and 1 is not"),
        ({"a": [b"x"]}, r"^a\[0\]: bytes cannot"),
        ({"a": float("nan")}, "^a: float nan cannot"),
        ({"a": {1, 2}}, "^a: set cannot"),
        ({"a": object()}, "^a: object cannot"),
    ],
)
def test_what_json_does_not_know_is_refused_with_its_place(value: object, message: str) -> None:
    with pytest.raises(InvalidJobSpec, match=message):
        plain(value)


def test_a_dict_that_holds_itself_is_refused() -> None:
    endless: dict[str, object] = {}
    endless["a"] = endless
    with pytest.raises(InvalidJobSpec, match="nested more than 64 levels"):
        plain(endless)
