"""Flask needs no helper: a client is safe to share between threads, and opens connections of its own after a fork.

In this folder:

    pip install "goqueue[dev]" flask
    goqueue dev flask_reports:jobs                        # brings a PostgreSQL, and a worker
    export GOQUEUE_URL=$(goqueue db url)                  # in another terminal
    flask --app flask_reports run --port 8000             # or gunicorn --preload --workers 4 flask_reports:app
    curl -X POST localhost:8000/reports/2026
    curl localhost:8000/reports/JOB_ID                    # as the first answer says
"""

from __future__ import annotations

from flask import Flask

from goqueue import Client, Context, GoQueue

jobs = GoQueue()


@jobs.task(run_in="process", queue="reports")
def report(ctx: Context[None], year: int) -> int:
    """Keep a CPU busy for a while, and say how far it is."""
    total = 0
    for month in range(1, 13):
        total += sum(divmod(year * day, month)[1] for day in range(31))
        ctx.progress({"month": month})
    return total


app = Flask(__name__)
client = Client(jobs)  # a module global: it opens nothing until it is used


@app.post("/reports/<int:year>")
def order(year: int) -> dict[str, str]:
    """Order a report; twice the same while it is being made is one job."""
    return {"job": client.enqueue(report.job(year).options(unique=True)).id}


@app.get("/reports/<job_id>")
def look(job_id: str) -> dict[str, object]:
    """Say how far it is."""
    job = client.get(job_id)
    record = job.record()
    done = str(record.state) == "completed"
    return {"state": str(record.state), "result": job.result(timeout_s=5) if done else None}
