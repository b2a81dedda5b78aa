"""The demo and what the shell around it has set for production."""

import os

from cli.demo import _leave_production_alone


def test_the_demo_never_sees_the_production_database(monkeypatch, capsys):
    shell = {
        "PATH": "/bin",
        "ONEBOOK_DATABASE_URL": "postgresql://prod:secret@db.example/onebook",
        "ONEBOOK_KEYS": "/srv/wallet/keys",
    }
    monkeypatch.setattr(os, "environ", shell)  # the tests' own variables stay
    _leave_production_alone()
    assert shell == {"PATH": "/bin"}
    said = capsys.readouterr().out
    assert "ONEBOOK_DATABASE_URL" in said
    assert "secret" not in said
