# syntax=docker/dockerfile:1
# Two images of one source: `web` (API, migrations, workers of class cpu) and `worker` (with torch, for class gpu).
#     docker build --target web .      docker build --target worker .
ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/atelier
ENV PATH=/opt/atelier/bin:$PATH
WORKDIR /source
# Dependencies first: they change rarely, so a change of the source costs no installation.
COPY pyproject.toml constraints.txt ./
RUN python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
        > web.txt && pip install --constraint constraints.txt --requirement web.txt

FROM build AS build-web
COPY . .
RUN pip install --no-deps .

# torch as PyPI has it for Linux: with CUDA. For another build of it, e.g. one without:
#     --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu
FROM build AS build-worker
ARG TORCH_INDEX=https://pypi.org/simple
RUN pip install --constraint constraints.txt --index-url "${TORCH_INDEX}" --extra-index-url https://pypi.org/simple \
        "$(grep '^torch==' constraints.txt)"
RUN python -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
print(*project["optional-dependencies"]["worker"], sep="\n")' \
        > worker.txt && pip install --constraint constraints.txt --requirement worker.txt
COPY . .
RUN pip install --no-deps .

FROM ${PYTHON} AS base
RUN useradd --uid 10001 --create-home atelier && install -d -o atelier -g atelier /data /checkpoints
ENV PATH=/opt/atelier/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ATELIER_DATA_DIR=/data \
    ATELIER_CHECKPOINTS_DIR=/checkpoints \
    ATELIER_HOST=0.0.0.0 \
    ATELIER_PORT=8000
WORKDIR /home/atelier
USER atelier
STOPSIGNAL SIGTERM

FROM base AS web
COPY --from=build-web /opt/atelier /opt/atelier
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/livez', timeout=2)"]
CMD ["atelier", "serve"]

FROM base AS worker
COPY --from=build-worker /opt/atelier /opt/atelier
# Healthy: the process that paints is there. What hangs in it is ended and replaced by its parent.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-m", "workers.alive"]
CMD ["atelier", "worker", "--class", "gpu"]
