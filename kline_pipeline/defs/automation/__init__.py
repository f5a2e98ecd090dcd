"""What Dagster does by itself: schedules, sensors, alerts, jobs, all visible in the UI; runs are told elsewhere."""
