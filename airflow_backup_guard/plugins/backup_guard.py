"""The plugin: without it, the scheduler would refuse a DAG with a timetable of ours, and the UI had no pages."""

from __future__ import annotations

import asyncio
from typing import Any

from airflow.plugins_manager import AirflowPlugin

from airflow_backup_guard.timetables import OffPeakTimetable

PREFIX = "backup-guard"
"""Where the pages are, below Airflow's base URL."""

_TASK = "dag_id={DAG_ID}&run_id={RUN_ID}&task_id={TASK_ID}&map_index={MAP_INDEX}"


class _WhenAsked:
    """The pages as an ASGI app that is built for its first request: every process of Airflow loads the plugin, and only
    the API server needs them."""

    _app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._app is None:
            self._app = await asyncio.to_thread(self._build)
        await self._app(scope, receive, send)

    @staticmethod
    def _build() -> Any:
        from airflow_backup_guard.ui.app import build_app

        return build_app()


class BackupGuardPlugin(AirflowPlugin):
    """All that this package adds to Airflow's own processes."""

    name = "backup_guard"
    timetables = [OffPeakTimetable]  # noqa: RUF012  # Airflow's own declaration
    fastapi_apps = [{"name": "Backup Guard", "url_prefix": f"/{PREFIX}", "app": _WhenAsked()}]  # noqa: RUF012
    # Without a leading slash an address is below Airflow's base URL, whatever that is.
    external_views = [  # noqa: RUF012
        {
            "name": "Backups",
            "href": f"{PREFIX}/backups",
            "destination": "nav",
            "category": "browse",
            "url_route": PREFIX,
            "icon": f"{PREFIX}/static/icon.svg",
            "icon_dark_mode": f"{PREFIX}/static/icon-dark.svg",
        },
        {
            "name": "Off-peak",
            "href": f"{PREFIX}/off-peak",
            "destination": "nav",
            "category": "browse",
            "url_route": f"{PREFIX}-off-peak",
            "icon": f"{PREFIX}/static/icon.svg",
            "icon_dark_mode": f"{PREFIX}/static/icon-dark.svg",
        },
        {
            "name": "Backup",
            "href": f"{PREFIX}/task?{_TASK}",
            "destination": "task_instance",
            "url_route": "backup",
            "icon": f"{PREFIX}/static/icon.svg",
            "icon_dark_mode": f"{PREFIX}/static/icon-dark.svg",
        },
    ]
