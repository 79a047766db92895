"""The pages in Airflow's UI: a FastAPI app that the API server mounts, and what it serves."""
