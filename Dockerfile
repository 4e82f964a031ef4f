# The MLflow server of compose.yaml.
FROM python:3.11-slim-bookworm AS server

RUN useradd --create-home --uid 1000 mlflow \
    && mkdir /artifacts && chown mlflow /artifacts
COPY constraints.txt /
RUN pip install --no-cache-dir -c /constraints.txt mlflow psycopg2-binary
USER mlflow
WORKDIR /home/mlflow

# The pinned installation of `make demo`, for machines without Python. Runs the demo by default:
#   docker build -t slm-energy . && docker run --rm -v slm-mlruns:/work/mlruns slm-energy
# docs/how-to/containers.md has the rest.
# RAPL and GPUs need the host's devices: -v /sys/class/powercap:/sys/class/powercap:ro --gpus all
# Measurements in other containers wait for this one's with -v /run/lock:/run/lock.
# A server on a GPU also needs --pid=host: it is found there by its process ids.
FROM python:3.11-slim-bookworm

RUN useradd --create-home --uid 1000 slm \
    && mkdir -p /work/mlruns /home/slm/.cache && chown -R slm:slm /work /home/slm/.cache
WORKDIR /opt/slm_energy
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY hydra_plugins hydra_plugins
COPY conf conf
COPY sweeps sweeps
COPY slm_energy slm_energy
RUN pip install --no-cache-dir -c constraints.txt torch==2.13.0 \
    && pip install --no-cache-dir -c constraints.txt '.[torch,onnx]'

USER slm
WORKDIR /work
ENTRYPOINT ["slm-energy"]
CMD ["--config-name", "demo"]
