import pytest

from compat_engine.engine.regexps import compiled


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        ("a(b", "missing closing ): `a(b`"),
        ("a[b", "missing closing ]: `[b`"),
        ("*", "missing argument to repetition operator: `*`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a)", "unexpected ): `a)`"),
        ("a{2,1}", "invalid repeat count: `{2,1}`"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        (r"\q", r"invalid escape sequence: `\q`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        ("a\\", "trailing backslash at end of expression: ``"),
    ],
)
def test_complaints_are_gos(pattern: str, complaint: str) -> None:
    with pytest.raises(ValueError) as refused:
        compiled(pattern)
    assert str(refused.value) == f"error parsing regexp: {complaint}"


def test_no_expression_takes_for_ever() -> None:
    """With a matcher that tries out, this one doubles its time with each letter."""
    assert compiled("^(a+)+$").search("a" * 1000 + "!") is None


def test_gos_syntax() -> None:
    assert compiled(r"^\p{Lu}é\z").search("Éé")
    assert compiled("(?i)WEB").search("the web")
    assert not compiled(r"\d").search("٣")
