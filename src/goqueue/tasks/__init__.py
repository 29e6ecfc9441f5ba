"""What users write: applications, tasks, retry policies; and how their jobs are checked and encoded."""
