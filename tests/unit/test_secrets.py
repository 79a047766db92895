"""No secret that can be known is shown."""

from __future__ import annotations

import pytest

from airflow_backup_guard.core.secrets import Mask, secrets_in


@pytest.mark.parametrize(
    ("words", "environment", "expected"),
    [
        (["x"], {"PGPASSWORD": "hunter22", "PGPASSFILE": "/etc/pass", "HOME": "/root"}, {"hunter22"}),
        (["x"], {"RESTIC_PASSWORD": "abcdef", "RESTIC_PASSWORD_FILE": "/x", "AWS_ACCESS_KEY_ID": "AKIA"}, {"abcdef"}),
        (["x"], {"AWS_SECRET_ACCESS_KEY": "s3cr3t", "PGBACKREST_REPO1_CIPHER_PASS": "cipher1"}, {"s3cr3t", "cipher1"}),
        (["x", "--password=hunter22", "--token", "t0kent0ken", "--jobs=4"], {}, {"hunter22", "t0kent0ken"}),
        (["x", "--password", "--verbose", "--password-file=/x"], {}, set()),
        (["env", "PGPASSWORD=hunter22", "pg_dump", "-p5432"], {}, {"hunter22"}),
        (["/usr/bin/mysqldump", "-uroot", "-phunter22", "shop"], {}, {"hunter22"}),
    ],
)
def test_secrets_are_known_by_their_names(words: list[str], environment: dict[str, str], expected: set[str]) -> None:
    """Those of the usual programs are found, and names of files and of users are none."""
    assert secrets_in(words, environment) == expected


def test_a_mask_hides_what_is_known_and_what_looks_like_a_secret() -> None:
    """The longer of two first, and URLs and connection strings whatever is known; short words stay."""
    mask = Mask({"hunter22", "hunter22andmore", "shop"})
    assert mask("with hunter22andmore, hunter22 in shop") == "with ***, *** in shop"
    assert mask("postgresql://me:anything@db/shop password='a b'") == "postgresql://me:***@db/shop password=***"
    assert Mask()("plain") == "plain"
