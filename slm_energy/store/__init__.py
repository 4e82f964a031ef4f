"""Storage of records: written to disk and MLflow, and read back.

outbox         pending records on disk, until the store has them
artifacts      the files of a record; `traces` are its readings as Parquet
mlflow_schema  the MLflow form of a record: tags, params, metrics
connection     connections to MLflow; `access` covers credentials, TLS, and one-line error messages
tracking       the store: sweeps and trials in MLflow
runs           searches of MLflow's runs; `history_cache` keeps the results
offline        without a store: sweeps and trials stay in a folder
sync           sends the records that are pending in a folder
"""
