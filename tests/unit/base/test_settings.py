"""Where rows and bytes are: said once, kept in a file, and the environment comes first."""

import stat

import pytest

from clew.base.errors import Invalid
from clew.base.settings import read_settings, shown, write_config


@pytest.fixture
def home(tmp_path):
    home = tmp_path / ".clew"
    home.mkdir()
    return home


def read(home, **environ):
    return read_settings(environ, home.parent)


def test_without_a_word_everything_is_in_the_home(home):
    settings = read(home)
    assert settings.database_url == f"sqlite:///{home / 'clew.db'}"
    assert settings.store_address == str(home / "store")
    assert not settings.made


def test_what_was_written_is_read_and_only_the_owner_may(home):
    db = 'postgresql://me:${PW}@host/x?application_name="a\\b"'
    file = write_config(home, workspace="w", db=db, store="s3://b/p")
    settings = read(home, PW="hidden")
    assert settings.database_url == 'postgresql://me:hidden@host/x?application_name="a\\b"'
    assert (settings.store_address, settings.workspace) == ("s3://b/p", "w")
    assert settings.made
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "hidden" not in file.read_text() + repr(settings)


def test_the_environment_comes_first(home):
    write_config(home, workspace="w", db="postgresql://a/b", store="s3://b/p")
    settings = read(home, CLEW_DB="postgresql://c/d", CLEW_STORE="/srv/store")
    assert (settings.db, settings.store) == ("postgresql://c/d", "/srv/store")
    assert settings.workspace == ""  # another database may hold another workspace


def test_a_variable_that_is_not_set_is_named(home):
    write_config(home, workspace="w", db="postgresql://a:${SECRET_PW}@b/c", store="")
    with pytest.raises(Invalid, match="SECRET_PW") as caught:
        read(home)
    assert caught.value.code == "settings.invalid"


@pytest.mark.parametrize("text", ["db = 3", "db = [", "[store]\nx = 1", "\x00"])
def test_a_file_that_cannot_be_read_is_named(home, text):
    (home / "config.toml").write_text(text)
    with pytest.raises(Invalid, match=r"config\.toml"):
        read(home)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("postgresql://me:secret@host:1/db?password=secret", "postgresql://me@host:1/db"),
        ("postgresql:///db?host=/tmp&password=secret", "postgresql:///db"),
        ("s3://bucket/p?endpoint=http://x&secret_access_key=secret", "s3://bucket/p"),
        ("/srv/store", "/srv/store"),
    ],
)
def test_an_address_is_shown_without_its_secrets(address, said):
    assert shown(address) == said
