"""MLflow's own pages: the server that `hpo ui` starts, and how its list of runs shows a study.

Never: writes a run.
"""
