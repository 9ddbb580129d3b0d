"""Every refusal has one code, one kind and a text of two parts; its place decides whether it is a usage error."""

import re

import pytest

from sigkit import errors
from sigkit.errors import Kind, Owner, Place, SigkitError, all_codes

CODED = [pytest.param(cls, id=code) for code, cls in sorted(all_codes().items())]


def subclasses(cls):
    """Return every class below one."""
    return [below for sub in cls.__subclasses__() for below in (sub, *subclasses(sub))]


def test_no_two_classes_share_a_code():
    own = [cls.code for cls in subclasses(SigkitError) if "code" in vars(cls)]
    assert sorted(own) == sorted(set(own))


def test_every_class_below_a_kind_has_a_code_of_its_own():
    without = [cls.__name__ for base in SigkitError.__subclasses__() for cls in subclasses(base) if "code" not in vars(cls)]
    assert without == []


def test_every_code_is_listed_in_one_module():
    assert {cls.__module__ for cls in subclasses(SigkitError)} == {errors.__name__}


def test_every_kind_has_one_base_class():
    assert sorted(base.kind.name for base in SigkitError.__subclasses__()) == sorted(kind.name for kind in Kind)


@pytest.mark.parametrize("cls", CODED)
def test_a_code_is_its_kind_and_a_number(cls):
    assert re.fullmatch(rf"SK-{cls.kind.value}-\d{{3}}", cls.code)


@pytest.mark.parametrize("cls", CODED)
def test_a_code_says_what_happened_and_what_to_do(cls):
    happened, _, advice = (cls.__doc__ or "").strip().partition("\n\n")
    assert "\n" not in happened
    assert happened.endswith(".")
    assert advice.strip().endswith(".")


@pytest.mark.parametrize("cls", CODED)
def test_a_refusal_ends_with_2_only_where_the_operator_wrote_what_is_wrong_and_never_with_0(cls):
    as_podman = {errors.EXIT_RUN_USAGE, errors.EXIT_RUN_NOT_EXECUTABLE, errors.EXIT_RUN_NOT_FOUND} if cls.kind is Kind.RUNTIME else set()
    assert cls("x").status() in {errors.EXIT_REFUSED, errors.EXIT_UNCHECKED, *as_podman}
    assert cls("x", place=Place.operator("policy.yaml", "3:1")).status() == errors.EXIT_USAGE


@pytest.mark.parametrize("kind", [Kind.NET, Kind.UNAVAIL, Kind.INTERNAL])
def test_what_could_not_be_checked_never_looks_refused(kind):
    statuses = {cls.exit_status for cls in all_codes().values() if cls.kind is kind}
    assert statuses <= {errors.EXIT_UNCHECKED}


def test_each_caller_adds_its_part_of_the_place():
    err = errors.WrongShape("x", place=Place("", "$.layers[2].digest")).within(Place("registry.example/a/b", "manifest"))
    assert str(err.place) == "registry.example/a/b: manifest $.layers[2].digest"


def test_a_place_inside_an_operators_file_stays_the_operators():
    err = errors.WrongShape("x", place=Place("", "4:2")).within(Place.operator("policy.yaml"))
    assert (err.place.owner, err.status()) == (Owner.OPERATOR, errors.EXIT_USAGE)


def test_the_text_of_a_refusal_begins_with_its_code_and_holds_both_sides():
    text = str(errors.DigestMismatch("differs", place=Place("r.example/a"), expected="sha256:1", got="sha256:2"))
    assert text.startswith("SK-DIGEST-002 differs")
    assert "sha256:1" in text
    assert "sha256:2" in text
