# The server as an image: docker build -t rungraph .
# Everything it keeps (database, files, the administrator's token) lies in the volume /data.

# The explorer, with a Node that does not come along further.
FROM python:3.11-slim AS explorer
RUN python -m venv /opt/node
WORKDIR /src/graph/explorer
COPY graph/explorer/ ./
RUN ./build.sh /opt/node

# The environment: pinned requirements in a layer of their own, which the code does not disturb.
FROM python:3.11-slim AS environment
RUN python -m venv /opt/rungraph
WORKDIR /src
COPY requirements-image.txt ./
RUN /opt/rungraph/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements-image.txt
COPY pyproject.toml README.md LICENSE ./
COPY client client
COPY db db
COPY backends backends
COPY graph graph
COPY --from=explorer /src/graph/static graph/static
RUN /opt/rungraph/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps . ./client

FROM python:3.11-slim
# git fetches modules, also by ssh; tini reaps what jobs leave behind, which the first process has to.
RUN apt-get update \
    && apt-get install -y --no-install-recommends git openssh-client tini \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --create-home --home-dir /home/rungraph rungraph \
    && install -d -o rungraph -g rungraph -m 0700 /data
COPY --from=environment /opt/rungraph /opt/rungraph
ENV PATH=/opt/rungraph/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    RUNGRAPH_HOME=/data
USER rungraph
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["tini", "--"]
CMD ["rungraph", "serve", "--host", "0.0.0.0"]
