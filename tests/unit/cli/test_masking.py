"""Addresses are shown without their secrets, however these are written."""

from __future__ import annotations

import pytest

from goqueue.cli.masking import masked


@pytest.mark.parametrize(
    "text,shown",
    [
        ("postgresql://me:s3cret@host:1/db", "postgresql://me:…@host:1/db"),
        ("postgresql://:s3cret@host/db", "postgresql://:…@host/db"),
        ("postgresql://me:a@s3cret@host/db", "postgresql://me:…@host/db"),
        ("postgresql://me:a?s3cret@host/db", "postgresql://me:…@host/db"),
        ("postgresql://me:a#s3cret@host/db", "postgresql://me:…@host/db"),
        ("postgresql://me:a/s3cret@host/db", "postgresql://me:…@host/db"),
        ("postgresql://me:s3cret@one:1,two:2/db", "postgresql://me:…@one:1,two:2/db"),
        ("postgresql://u@h/d?password=s3cret", "postgresql://u@h/d?password=…"),
        ("postgresql:///d?user=u&PassWord=s3cret&x=1", "postgresql:///d?user=u&PassWord=…&x=1"),
        ("postgresql://h/d?p%61ssword=s3cret", "postgresql://h/d?p%61ssword=…"),
        ("postgresql://h/d?sslpassword=s3cret#1&sslmode=require", "postgresql://h/d?sslpassword=…&sslmode=require"),
        ("postgresql://u:s3cret@h/d?password=s3cret", "postgresql://u:…@h/d?password=…"),
        ("host=h password=s3cret&1 user=u", "host=h password=… user=u"),
        (r"host=h password = 'a \' s3cret' user=u", "host=h password = … user=u"),
    ],
)
def test_what_is_secret_is_hidden(text: str, shown: str) -> None:
    assert masked(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://host/db",
        "postgresql://me@host:5432/db?sslmode=require&passfile=/a/b",
        "postgresql://[::1]:5432/db",
        "postgresql://h:5432/d?application_name=a@b",
        "postgresql://u@h/d?password=",
        "memory://",
        "mail:app",
        "",
    ],
)
def test_all_else_is_left_as_it_is(text: str) -> None:
    assert masked(text) == text
