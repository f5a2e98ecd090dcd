"""What Dagster does by itself: schedules, sensors, alerts and jobs, all visible in the UI; runs are told elsewhere."""
