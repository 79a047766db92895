"""The options of alert: whether people would hear."""

from __future__ import annotations

from airflow_backup_guard.cli.arguments import shared

_ALERT = """\
Try the alert channels of a plan: send a test message through each, whatever
severities and times it has in the plan, and say what became of it.

Channels are notifiers of Airflow's providers, so this needs Airflow, and the
connections that they name: in Airflow's own environment, or as
AIRFLOW_CONN_... variables. With a repository, that it was tried is kept there.
The exit status is 1 if any message did not arrive.
"""
_ALERT_EXAMPLES = """\
example:
  backup-guard alert --test --plan shop.toml

example of channels in a plan file:
  [[alerts.channels]]
  name = "mail"
  notifier = "airflow.providers.smtp.notifications.smtp.SmtpNotifier"
  [alerts.channels.arguments]
  to = "dba@example.com"
  from_email = "backup@example.com"
  subject = "{{ alert_title }}"
  html_content = "{{ alert_html }}"
"""


def add(commands: shared.Commands) -> None:
    """Add this command."""
    command = shared.command(commands, "alert", "would anybody hear? try the channels", _ALERT)
    command.epilog = _ALERT_EXAMPLES
    # Required, so that nobody sends anything by the bare name of a command.
    command.add_argument("--test", action="store_true", required=True, help="send a test through every channel")
    command.add_argument("--channel", action="append", metavar="NAME", help="only through this one; may be repeated")
    shared.repository(command)
