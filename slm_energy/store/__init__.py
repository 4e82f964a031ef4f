"""Where records go, and where they are read back from.

outbox         records on disk, until the store has them
artifacts      the files of a record; `traces` are its readings as Parquet
mlflow_schema  how a record looks in MLflow: tags, params, metrics
connection     how MLflow is reached; `access` has logins, TLS, and one-line error messages
tracking       the store: sweeps and trials in MLflow
runs           how MLflow's runs are searched; `history_cache` keeps the results
offline        no store: sweeps and trials stay in a folder
sync           sends the records that are pending in a folder
"""
