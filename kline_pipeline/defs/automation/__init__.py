"""What Dagster does by itself: schedules, sensors, alerts and jobs, all visible in the UI; what a run does: assets."""
