"""The vault: what it seals opens with its key and context alone; what was opened is blotted out of the log."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import vault
from backends.base import LaunchRejected, Piece, Stream
from backends.vault import NotOpened, Vault
from db.grants import Grant, Sealed

VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=50)
KEY = vault.new_key()


@given(VALUES, st.binary(max_size=40))
def test_what_is_sealed_opens_again_and_looks_like_nothing(value: str, context: bytes) -> None:
    sealed = Vault(KEY).seal(context, value)
    assert Vault(KEY).open(context, sealed) == value
    assert len(value.encode()) < 4 or value.encode() not in sealed
    assert Vault(KEY).seal(context, value) != sealed


@given(VALUES, st.integers(0), st.integers(1, 255))
def test_what_was_changed_does_not_open(value: str, at: int, change: int) -> None:
    sealed = bytearray(Vault(KEY).seal(b"context", value))
    sealed[at % len(sealed)] ^= change
    with pytest.raises(NotOpened):
        Vault(KEY).open(b"context", bytes(sealed))


def test_it_opens_with_its_own_key_and_context_alone() -> None:
    sealed = Vault(KEY).seal(b"project A", "value")
    for wrong, context in (
        (Vault(vault.new_key()), b"project A"),
        (Vault(KEY), b"project B"),
        (Vault(), b""),
    ):
        with pytest.raises(NotOpened):
            wrong.open(context, sealed)


@pytest.mark.parametrize("key", ["", "c2hvcnQ=", "\n"])
def test_a_key_of_another_length_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Vault(key)


def test_a_grant_becomes_variables() -> None:
    held = Vault(KEY)
    granted = Grant((Sealed("A", b"a", held.seal(b"a", "one")), Sealed("B", b"b", held.seal(b"b", "two"))))
    assert held.environment(granted) == {"A": "one", "B": "two"}


@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        (Sealed("A", b"a", None), "needs the secret A, which is not set"),
        (
            Sealed("A", b"a", Vault(vault.new_key()).seal(b"a", "x")),
            "the secret A does not open, set it again",
        ),
    ],
)
def test_what_cannot_be_had_launches_nothing(secret: Sealed, reason: str) -> None:
    with pytest.raises(LaunchRejected, match=reason):
        Vault(KEY).environment(Grant((secret,)))


def printed(text: bytes) -> list[Piece]:
    return [Piece(Stream.STDOUT, 1, text), Piece(Stream.STDERR, 2, b"x" + text, True)]


def test_values_are_blotted_out_wherever_they_stand() -> None:
    mask = vault.masking(["s3cr3t-value", "s3cr3t-value-longer", "short", "line one\nof a long key\n"])
    told = mask(printed(b"a=s3cr3t-value-longer;s3cr3t-value short\nof a long key"))
    assert [piece.data for piece in told] == [b"a=***;*** short\n***", b"xa=***;*** short\n***"]
    assert [(piece.stream, piece.time_us, piece.continued) for piece in told] == [
        (Stream.STDOUT, 1, False),
        (Stream.STDERR, 2, True),
    ]


def test_without_values_nothing_is_touched() -> None:
    pieces = printed(b"text")
    assert vault.masking(["short", "\n"])(pieces) is pieces


def test_a_mask_is_made_of_what_still_opens() -> None:
    held = Vault(KEY)
    granted = Grant(
        (Sealed("A", b"a", None), Sealed("B", b"b", held.seal(b"b", "s3cr3t-value")), Sealed("C", b"", b"?"))
    )
    assert [piece.data for piece in held.mask(granted)(printed(b"s3cr3t-value"))] == [b"***", b"x***"]
