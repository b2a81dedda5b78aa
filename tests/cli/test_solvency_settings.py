"""Where epochs' hashes are written: what the setting comes to, and what is refused with its file."""

import pytest

from base.errors import ConfigError
from tests.cli.test_token_settings import HEAD, deployment, load
from wiring.settings import load_settings

TO = "0x52908400098527886E0F7030069857D2E4169EE7"


def anchored(network="local", to=TO):
    return f'[solvency]\nanchor = {{ network = "{network}", to = "{to}" }}\n'


def test_network_and_address_reach_who_writes(tmp_path):
    anchor = load(tmp_path, deployment() + anchored()).solvency.anchor
    assert anchor is not None
    assert (anchor.network, anchor.to) == ("local", TO.lower())
    assert load(tmp_path, deployment()).solvency.anchor is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (anchored(network="elsewhere"), "solvency.anchor.network: no network elsewhere; there is local"),
        (anchored(to="0x12"), "solvency.anchor.to"),
        ('[solvency]\nanchor = { network = "local" }\n', "solvency.anchor.to"),
    ],
)
def test_what_cannot_be_written_to_is_refused(tmp_path, text, said):
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, deployment() + text)
    assert said in str(refused.value)
    assert "onebook.toml" in str(refused.value)


def test_a_network_whose_gas_could_not_be_booked_is_refused(tmp_path):
    config = tmp_path / "onebook.toml"
    config.write_text(HEAD[: HEAD.index("[[deployments]]")] + deployment() + anchored())
    with pytest.raises(ConfigError, match=r"the own coin of local has no \[\[deployments\]\]"):
        load_settings(config)
