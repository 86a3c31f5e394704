"""Docker's rules for user[:group]."""

from pathlib import Path

import pytest

from compat_engine.shim.failure import Failure
from compat_engine.shim.spec import User
from compat_engine.shim.user import Identity, resolve

PASSWD = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:34::/var/www:/bin/sh\n7:x:1000:1000::/seven:\nbroken:x:a:b:c\nevil:x:4294967295:0::/:\n\n"
GROUP = "root:x:0:\nmail:x:8:\nwheel:x:10:root\ntape:x:26:www,root\nevil:x:-1:\n"


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "passwd").write_text(PASSWD)
    (tmp_path / "group").write_text(GROUP)
    return str(tmp_path / "passwd"), str(tmp_path / "group")


@pytest.mark.parametrize(
    ("name", "additional", "identity"),
    [
        ("", (), Identity(0, 0, (0, 10, 26), "/root")),
        ("www", (), Identity(33, 34, (34, 26), "/var/www")),
        ("33", (), Identity(33, 34, (34, 26), "/var/www")),
        ("www:mail", (), Identity(33, 8, (8,), "/var/www")),
        ("www:77", (), Identity(33, 77, (77,), "/var/www")),
        ("4242", (), Identity(4242, 0, (0,), "/")),
        ("4242:8", ("tape", "999"), Identity(4242, 8, (8, 26, 999), "/")),
        ("7", (), Identity(1000, 1000, (1000,), "/seven")),
        (":mail", (), Identity(0, 8, (8,), "/root")),
    ],
)
def test_resolves(files: tuple[str, str], name: str, additional: tuple[str, ...], identity: Identity) -> None:
    assert resolve(User(name, additional), *files) == identity


@pytest.mark.parametrize(
    ("user", "text"),
    [
        (User("nosuch"), "unable to find user nosuch: no matching entries in passwd file"),
        (User("broken"), "unable to find user broken: no matching entries in passwd file"),
        (User("root:nosuch"), "unable to find group nosuch: no matching entries in group file"),
        (User("0", ("nosuch",)), "Unable to find group nosuch: no matching entries in group file"),
        (User("-1"), "uids and gids must be in range 0-2147483647"),
        (User("0:99999999999"), "uids and gids must be in range 0-2147483647"),
        (User("9" * 5000), "uids and gids must be in range 0-2147483647"),
        (User("evil"), "uids and gids must be in range 0-2147483647"),
        (User("4294967295"), "uids and gids must be in range 0-2147483647"),
        (User("root:evil"), "uids and gids must be in range 0-2147483647"),
    ],
)
def test_refuses(files: tuple[str, str], user: User, text: str) -> None:
    with pytest.raises(Failure) as raised:
        resolve(user, *files)
    assert (raised.value.step, raised.value.text) == ("user", text)


def test_an_image_without_the_files(tmp_path: Path) -> None:
    assert resolve(User("5:6"), str(tmp_path / "no"), str(tmp_path)) == Identity(5, 6, (6,), "/")
