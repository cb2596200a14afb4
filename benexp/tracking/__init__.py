"""Runs in MLflow: sent from the records that tasks write, by a process beside the one that works.

`sent_records` finds records, `mlflow_run` and `mlflow_metrics` make runs of MLflow of them; none of these needs MLflow.
`mlflow_client` and `system_metrics` import it. `recorder_client` is the working process's end, `recorder` the other
process.
"""
