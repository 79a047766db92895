"""Secrets that are planted in the Airflow of the tests, and in none of its files but one that holds a key."""

from __future__ import annotations

from pathlib import Path

SECRETS = {
    "wrong host": "Plant1-Pa55-of-the-wrong-host",
    "wrong password": "Plant2-Pa55-that-is-wrong",
    "aws": "Plant3SecretKeyOfTheBucket",
    "token": "Plant4-token-of-the-hook",
    "restic": "Plant5-restic-password",
    "identity": "AGE-SECRET-KEY-1PLANT6QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ",
}
"""By what they are for. The identity looks like one and is none, so that errors are about it."""


def planted(home: Path, postgres: int, webhook: str) -> dict[str, str]:
    """The environment that has them, as connections; and the file with the key."""
    identity = home / "planted.identity"
    identity.write_text(f"{SECRETS['identity']}\n")
    hook = webhook.removeprefix("http://")
    return {
        "PLANTED_IDENTITY_FILE": str(identity),
        "AIRFLOW_CONN_PLANTED_WRONG_HOST": f"postgres://guard:{SECRETS['wrong host']}@127.0.0.1:1/postgres",
        "AIRFLOW_CONN_PLANTED_WRONG_PASSWORD": (
            f"postgres://guard:{SECRETS['wrong password']}@127.0.0.1:{postgres}/postgres"
        ),
        "AIRFLOW_CONN_PLANTED_AWS": (
            f"aws://AKIAPLANTED:{SECRETS['aws']}@/?region_name=us-east-1&endpoint_url=http%3A%2F%2F127.0.0.1%3A1"
        ),
        "AIRFLOW_CONN_PLANTED_HOOK": f"http://robot:{SECRETS['token']}@{hook}",
        "AIRFLOW_CONN_PLANTED_RESTIC": f"generic://x:{SECRETS['restic']}@nowhere",
    }
