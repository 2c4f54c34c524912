"""What runs the business while nobody looks: schedules to runs, in one process."""
