"""Where records go, and where they come back from.

spool       records on disk, until the store has them
artifacts   the files of a record; `traces` are its readings as Parquet
fields      how a record looks in MLflow: tags, params, metrics
connection  how MLflow is reached; `access` has logins, TLS, and what went wrong in one line
tracking    the store: sweeps and trials in MLflow
runs        how MLflow's runs are searched; `ledger` remembers what was found
offline     no store: sweeps and trials stay in a folder
sync        send what waits in a folder
"""
