"""Bybit candles, complete and correct, into PostgreSQL and Parquet, through Dagster.

The map, in the order of the flow:

    market/         what a candle history is: interval and its grid, series, window, the columns
    datasets        what datasets.toml declares: which series, from when, cut into which partitions
    bybit/          the exchange: questions, answers, retries, the request budget, full pages, listings, page cache
    raw_batches/    what arrived, as it arrived, and what is still missing
    candles/        what it means: one exact row per open time
    checks/         is it true: one module per rule
    evidence/       what proves it: the coverage ledger, listings, revisions, what alerts remember
    alerting/       who is told of it: episodes, messages, targets
    sinks/          where it lands: the table in PostgreSQL, the snapshots in Parquet
    stages/         one partition through each step of the flow, and what has landed read back
    stored_partitions
                    what stands on the partitions: verdicts, checks, what is still to be done
    pipeline        the whole flow for a range, without Dagster
    direct/         past the flow: candles straight from the exchange, complete or an exception, without a database
    opening         everything these need, opened from the settings and closed in order
    api             the notebook: candles as pandas frames
    service/        the ops service: health and metrics over HTTP; probes look in the background, pages never wait

    defs/           the same flow as Dagster assets, partitions, checks and runs; definitions: what Dagster loads
    cli/            the commands, one module each
    database/       the PostgreSQL server, tables, migrations, locks, the shared request budget
    files           folders, local or in an object store, with atomic replacement
    metrics         every metric, and the counts of one process
    config, log/, errors
                    settings (the only reader of the environment), log lines, the one tree of errors
    locations       what a URL or a path in a setting must look like
    deploy/         files for Docker, Kubernetes, systemd, Prometheus and Grafana, and the runbook
    simulator/      a Bybit on this machine; imports nothing of ours

Nothing is imported here, so that one part can be used without the others.
"""
