"""Tells people through the notifiers of any provider."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from copy import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import BaseNotifier, Context

_log = logging.getLogger(__name__)


def tell(notifiers: Iterable[BaseNotifier], context: Context, **values: Any) -> None:
    """Call each with ``values`` for its templates. One that fails is logged: whoever cannot be reached must not keep
    others from hearing, or turn what is told of into something worse."""
    for notifier in notifiers:
        try:
            # Airflow puts what a template became in place of the template, and there may be more to tell.
            copy(notifier)({**context, **values})
        except Exception:
            _log.exception("%s could not tell: %s", type(notifier).__name__, next(iter(values.values()), ""))
