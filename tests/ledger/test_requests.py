"""What a request's repeat must equal: one hash for one meaning."""

import hashlib
import json

from hypothesis import given
from hypothesis import strategies as st

from ledger.requests import content_hash

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**300), 2**300) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(plain)
def test_content_is_the_hash_of_sorted_json_without_spaces(body):
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert content_hash(body) == hashlib.sha256(text.encode()).digest()


def test_the_order_of_fields_and_the_spaces_between_them_mean_nothing():
    assert content_hash(json.loads('{"a": 1, "b": [true]}')) == content_hash(json.loads('{"b":[true],"a":1}'))
    assert content_hash({"a": 1}) != content_hash({"a": "1"})
