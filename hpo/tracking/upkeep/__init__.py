"""What is done to the runs of a whole study, by a person and not by its driver.

Never: touches a run of another study.
"""
