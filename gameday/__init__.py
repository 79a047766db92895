"""The training that ``make gameday`` runs: the incident, lived through on one machine."""
