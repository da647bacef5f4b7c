from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_bacalhau.client.cid import is_cid, normalise_cid

V0 = "QmRNmZCoujKHMqgXypPfKkYJCDV4r8WogVoDVSrLmwEoFR"
V1 = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi"


@pytest.mark.parametrize(
    ("text", "usual"),
    [
        (V0, V0),
        (V1, V1),
        ("B" + V1[1:].upper(), V1),
        ("f01701220" + "00" * 32, "bafybeiaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        (
            "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy",
            "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy",
        ),
    ],
)
def test_a_cid_of_either_version_is_given_in_its_usual_spelling(text: str, usual: str) -> None:
    assert is_cid(text)
    assert normalise_cid(text) == usual


@pytest.mark.parametrize(
    "text",
    [
        "",
        "None",
        "Qm",
        V0[:-1],
        V0 + "R",
        V0.lower(),
        f" {V0}",
        f"{V0}\n",
        f"{V0}/outputs",
        f"/ipfs/{V0}",
        f"ipfs://{V0}",
        f"z{V0}",
        V1[:-1] + "j",
        f"{V1}aaaa",
        "bafż",
        "k51qzi5uqu5dgutdk6i1ynyzgkqngpha5xpgia3a5qqp4jsh0u4csozksxel2r",
    ],
)
def test_what_is_no_cid_of_content_is_refused(text: str) -> None:
    assert not is_cid(text)
    with pytest.raises(ValueError, match=r"CID|IPNS"):
        normalise_cid(text)


@given(st.text(max_size=80))
def test_no_text_makes_the_check_fail_in_another_way(text: str) -> None:
    if is_cid(text):
        assert normalise_cid(normalise_cid(text)) == normalise_cid(text)
