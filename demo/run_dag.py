"""Runs one DAG of a folder to its end inside of Airflow, and writes what its tasks returned as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from airflow.dag_processing.dagbag import DagBag
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session


def main(dag_id: str, dag_folder: str, output: str) -> int:
    """Exit status 0 if the run succeeded."""
    dag_bag = DagBag(dag_folder)
    if dag_bag.import_errors:
        print(*dag_bag.import_errors.values(), sep="\n", file=sys.stderr)
        return 1
    run = dag_bag.dags[dag_id].test()
    with create_session() as session:
        states = {task.task_id: str(task.state) for task in run.get_task_instances(session=session)}
        query = XComModel.get_many(run_id=run.run_id, dag_ids=dag_id, key="return_value")
        returned = {row.task_id: XComModel.deserialize_value(row) for row in session.scalars(query)}
    result = {"state": str(run.state), "states": states, "returned": returned}
    Path(output).write_text(json.dumps(result, default=str))
    return 0 if result["state"] == "success" else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
