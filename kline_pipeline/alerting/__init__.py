"""Telling people what fails: from finished runs to episodes, from episodes to messages, from messages to targets.

Nothing here knows Dagster or SQL: runs are read in defs/automation/finished_runs, what is kept is in evidence/alerts.
"""
