# The command `reverse-etl` with PostgreSQL and workers. A project is mounted at /project; its state in a volume, or in PostgreSQL.
#
#     docker build -t reverse-etl .
#     docker run --rm -v "$PWD":/project --env-file .env reverse-etl check --connect

FROM python:3.13-slim AS build
WORKDIR /src
COPY requirements/image.txt requirements/
RUN python -m venv /opt/etl && /opt/etl/bin/pip install --no-cache-dir --require-hashes -r requirements/image.txt
COPY pyproject.toml README.md LICENSE reverse_etl.yml ./
COPY syncs syncs
COPY reverse_etl reverse_etl
RUN /opt/etl/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /project etl && install -d -o etl -g etl -m 0700 /project/.reverse_etl
COPY --from=build /opt/etl /opt/etl
ENV PATH=/opt/etl/bin:$PATH PYTHONUNBUFFERED=1 REVERSE_ETL_PROJECT=/project REVERSE_ETL_LOG_FORMAT=json
USER etl
WORKDIR /project
VOLUME /project/.reverse_etl
# The daemon says of itself whether it is well; other commands end by themselves.
HEALTHCHECK --interval=30s --timeout=10s --start-period=20s CMD ["reverse-etl", "daemon", "--health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["reverse-etl"]
CMD ["daemon"]
