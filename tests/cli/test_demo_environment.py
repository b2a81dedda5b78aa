"""What the demo stands on: what the shell has set for production is left alone, and its chains' nodes must be there."""

import os
from pathlib import Path

import pytest

from chain import local
from chain.local import LocalNodeDown, NodeKind, ToolsMissing
from cli.demo import _chain, _leave_production_alone, _second_chain

ANVIL = Path("node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil")


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


def tools_without_anvil(folder: Path) -> Path:
    """Our Hardhat project, but for anvil: as on a machine for which there is none."""
    real = local.hardhat_project()
    modules = folder / "node_modules"
    modules.mkdir(parents=True)
    for place, inside in ((real, folder), (real / "node_modules", modules)):
        for entry in place.iterdir():
            if entry.name not in ("node_modules", "@foundry-rs"):
                (inside / entry.name).symlink_to(entry)
    return folder


def test_a_second_chain_that_does_not_start_is_named_with_its_log(tmp_path, monkeypatch):
    project = tools_without_anvil(tmp_path / "tools")
    anvil = project / ANVIL
    anvil.parent.mkdir(parents=True)
    anvil.write_text("#!/bin/sh\necho no more memory\nexit 1\n")
    anvil.chmod(0o755)
    monkeypatch.setenv("ONEBOOK_HARDHAT_LOCAL", str(project))
    log = tmp_path / "chain-2" / "node.log"
    with pytest.raises(LocalNodeDown) as ended, _second_chain(NodeKind.HARDHAT, tmp_path / "chain-2"):
        pass
    assert ended.value.message.startswith("the chain of the network local-2 didn't start: anvil ended at once")
    assert ended.value.message.endswith(str(log))
    assert "no more memory" in log.read_text()


@pytest.mark.slow
def test_where_there_is_no_anvil_the_second_chain_is_of_the_first_ones_kind(tmp_path, monkeypatch):
    monkeypatch.setenv("ONEBOOK_HARDHAT_LOCAL", str(tools_without_anvil(tmp_path / "tools")))
    with _second_chain(NodeKind.HARDHAT, tmp_path / "chain-2") as chain:
        assert chain.kind is NodeKind.HARDHAT
        assert local.status(chain.url).tokens.keys() == {"USDC", "DAI"}
    with pytest.raises(ToolsMissing, match=r"prepare\.py"), _chain("local", NodeKind.ANVIL, tmp_path / "chain"):
        pass
