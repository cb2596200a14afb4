"""Runs in MLflow: told from the records that tasks write, by a process beside the one that works.

`records` finds records and `telling` says what MLflow is told of them; neither needs MLflow. `sending` is the one
module that imports it. `live` is the working process's end of it, `recorder` the other process.
"""
