"""The audit as a task: holds plans against evidence, keeps the report, and fails unless all of them passed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseNotifier, BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from airflow_backup_guard.core.audit.examine import parse_accepted
from airflow_backup_guard.core.units import parse_duration
from airflow_backup_guard.hooks.backup_guard import BackupGuardHook
from airflow_backup_guard.hooks.errors import PROBLEM_KEY
from airflow_backup_guard.hooks.metrics import gauge
from airflow_backup_guard.hooks.notifiers import tell, tell_channels
from airflow_backup_guard.hooks.shown import ShownTask

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_backup_guard.core import BackupPlan
    from airflow_backup_guard.engine.audit import Audited

REPORT_KEY = "report"
"""XCom key of the whole report, as Markdown."""


class BackupAuditOperator(ShownTask, BaseOperator):
    """Audits one plan or many, and stores each audit beside the backups of its plan.

    :param plan: the plan, or all plans of a fleet
    :param period: how far back to look, as ``"92d"``
    :param accepted: risks that somebody has accepted: :class:`AcceptedRisk`, or tables with ``check``, ``owner``,
        ``until``, ``reason`` and maybe ``plan``
    :param notifiers: notifiers of any provider, told of every audit; their templates may use ``{{ audit_title }}``,
        ``{{ audit_report }}`` (Markdown) and ``{{ audit_html }}``

    Returns, in plain values, for each plan whether it is good, the ids of its problems, and key and SHA-256 of what is
    stored; the whole report is in the XCom ``report``. Fails if a plan did not pass, and then tells the channels of its
    alerts. Without any plan it fails.
    """

    backup_step: ClassVar[str] = "audit"

    def __init__(
        self,
        *,
        plan: BackupPlan | Sequence[BackupPlan],
        period: str = "92d",
        accepted: Sequence[Any] = (),
        notifiers: Iterable[BaseNotifier] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.plans: list[BackupPlan] = list(plan) if isinstance(plan, list | tuple) else [plan]  # type: ignore[list-item]
        self.period = parse_duration(period, "period")
        self.accepted = parse_accepted(list(accepted))
        self.notifiers = list(notifiers)

    def shown_plans(self) -> Sequence[BackupPlan]:
        """All of them."""
        return self.plans

    def execute(self, context: Context) -> dict[str, Any]:
        """Audit; each finding that asks for something is a line in the log."""
        from airflow_backup_guard.core.audit.html import html
        from airflow_backup_guard.core.audit.report import markdown, title_of
        from airflow_backup_guard.engine.audit import Subject, audit

        now = datetime.now(timezone.utc)
        hooks = [BackupGuardHook(plan) for plan in self.plans]
        subjects = [Subject(hook.plan, hook.repository, hook.dsn) for hook in hooks]
        made = audit(subjects, start=now - self.period, accepted=self.accepted, now=now)
        audits = [one.audit for one in made]
        title = title_of(audits)
        report = markdown(audits)
        context["ti"].xcom_push(key=REPORT_KEY, value=report)
        tell(self.notifiers, context, audit_title=title, audit_report=report, audit_html=html(audits))
        for plan, one in zip(self.plans, made, strict=True):
            self._log(one)
            gauge(plan.name, "audit", passed=float(one.good), problems=float(len(one.audit.problems)))
            if not one.good:
                tell_channels(plan, context, "audit.failed", "", _problem(one))
        if not made or not all(one.good for one in made):
            problem = "; ".join([title, *(_problem(one) for one in made if not one.good)])
            context["ti"].xcom_push(key=PROBLEM_KEY, value=problem)
            raise AirflowFailException(problem)
        return {"good": True, "title": title, "audits": [_plain(one) for one in made]}

    def _log(self, one: Audited) -> None:
        for finding in one.audit.findings:
            if finding.is_problem:
                self.log.error("%s %s %s %s", finding.check, finding.verdict.value, finding.said, finding.remedy)
            elif finding.accepted is not None:
                self.log.warning("%s accepted: %s %s", finding.check, finding.accepted, finding.said)
        self.log.info("%s", one.audit.summary)
        self.log.info("Stored as %s, SHA-256 %s", one.key, one.sha256)


def _problem(one: Audited) -> str:
    checks = ", ".join(f"{finding.check} {finding.verdict.value}" for finding in one.audit.problems)
    where = one.problem or f"The report is {one.key.removesuffix('.json')}.html in {one.audit.repository}."
    return f"Plan {one.audit.plan_name}: {checks or 'all checks passed'}. {where}"


def _plain(one: Audited) -> dict[str, Any]:
    return {
        "plan_name": one.audit.plan_name,
        "good": one.good,
        "problems": [finding.check for finding in one.audit.problems],
        "accepted": [finding.check for finding in one.audit.findings if finding.accepted is not None],
        "key": one.key,
        "sha256": one.sha256,
    }
