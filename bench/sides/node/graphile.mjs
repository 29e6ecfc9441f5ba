// graphile-worker: its migration (`migrate`), or one worker process until SIGTERM (`work`).
// LOCAL_QUEUE jobs are fetched at a time, its documented set-up for throughput; without it jobs are fetched one by one.
import fs from "node:fs";
import { Logger, run, runMigrations } from "graphile-worker";

const [, , verb, connectionString] = process.argv;
if (verb === "migrate") {
  await runMigrations({ connectionString });
  process.exit(0);
}

// bench/stamps.py: 8 bytes a job, first those of `sent`, then those of `started`, on the same clock as Python's.
const stamps = fs.openSync(process.env.BENCH_STAMPS, "r+");
const started = fs.fstatSync(stamps).size / 2;
const instant = new BigInt64Array(1);
const bytes = new Uint8Array(instant.buffer);
const noop = async (given) => {
  instant[0] = process.hrtime.bigint();
  fs.writeSync(stamps, bytes, 0, 8, started + given.i * 8);
};

const size = Number(process.env.LOCAL_QUEUE ?? 0);
const worker = {
  connectionString,
  maxPoolSize: 10,
  pollInterval: 2000,
  concurrentJobs: Number(process.env.CONCURRENCY),
  completeJobBatchDelay: 0,
  failJobBatchDelay: 0,
  ...(size > 0 ? { localQueue: { size, refetchDelay: { durationMs: 10 } } } : {}),
};
const running = await run({ preset: { worker }, logger: new Logger(() => () => {}), taskList: { noop } });
await running.promise;
