# syntax=docker/dockerfile:1
# One build for all programs; `--target user-service`, `notification-service` or `outbox-relay` picks the
# image.

FROM rust:1.95-bookworm AS chef
RUN cargo install cargo-chef --version 0.1.78 --locked
WORKDIR /src

# The recipe is the manifests and the lock file without the code …
FROM chef AS plan
COPY . .
RUN cargo chef prepare

# … so the layer with the dependencies is built again only when they change.
FROM chef AS build
COPY --from=plan /src/recipe.json .
RUN cargo chef cook --release --locked --bins -p user-service -p notification-service -p outbox
COPY . .
RUN cargo build --release --locked --bins -p user-service -p notification-service -p outbox

FROM debian:bookworm-slim AS runtime
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/*
USER 10001:10001

FROM runtime AS notification-service
COPY --from=build /src/target/release/notification-service /usr/local/bin/
ENV LISTEN_ADDR=0.0.0.0:8081
EXPOSE 8081
ENTRYPOINT ["notification-service"]
CMD ["serve"]

FROM runtime AS outbox-relay
COPY --from=build /src/target/release/outbox-relay /usr/local/bin/
ENV RELAY_LISTEN_ADDR=0.0.0.0:8082
EXPOSE 8082
ENTRYPOINT ["outbox-relay"]
CMD ["run"]

FROM runtime AS user-service
COPY --from=build /src/target/release/user-service /usr/local/bin/
ENV LISTEN_ADDR=0.0.0.0:8080
EXPOSE 8080
ENTRYPOINT ["user-service"]
CMD ["serve"]
