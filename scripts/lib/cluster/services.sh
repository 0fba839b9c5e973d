# shellcheck shell=bash
# Two of each service, behind the proxies.

start_user_service_member() {
    DATABASE_URL=$(postgres_url "$POSTGRES_DATABASE") start_service_member "$1" user-service
}

start_notification_service_member() { start_service_member "$1" notification-service; }

# What is not set in the environment of a process is not seen in its arguments either.
start_service_member() {
    NATS_URL=$NATS_URL MONGODB_URI=$MONGODB_URI STREAM_REPLICAS=3 TRUSTED_HOPS=1 \
        LISTEN_ADDR=127.0.0.1:$(member_port "$1") \
        LIVE_COPY_URL=$(live_copy_url) CORS_ORIGINS=$(live_page_origins) \
        start_process "$1" "$TARGET_DIR/$PROFILE/$2" serve
}
