"""Runs jobs over `goqueue.store.port.WorkStore`: fetcher, runner, verdict, settler, keeper, supervisor."""
