"""What Dagster loads: jobs, sensors, schedules and checks. Each hands its work to a room below."""
