# shellcheck shell=bash
# The two services, built with the profile that was chosen.

build_services() {
    say "Building the services (profile $PROFILE)"
    run_interruptibly cargo build --profile "$PROFILE" --locked --bins \
        -p user-service -p notification-service -p testkit || die "the build failed"
}

# Builds the helper of the scripts unless it is there, with either profile.
require_devtool() {
    local built_with
    [[ ! -x $DEVTOOL ]] || return 0
    for built_with in release up; do
        use_profile "$built_with"
        [[ ! -x $DEVTOOL ]] || return 0
    done
    run_interruptibly cargo build --profile "$PROFILE" --locked -p testkit --bin devtool || die "the build failed"
}

start_user_service() {
    DATABASE_URL=$DATABASE_URL NATS_URL=$NATS_URL LISTEN_ADDR=127.0.0.1:$USER_PORT \
        LIVE_COPY_URL=$(live_copy_url) \
        start_process user-service "$TARGET_DIR/$PROFILE/user-service" serve
}

start_notification_service() {
    MONGODB_URI=$MONGODB_URI NATS_URL=$NATS_URL LISTEN_ADDR=127.0.0.1:$NOTIFICATION_PORT \
        CORS_ORIGINS=$(live_page_origins) \
        start_process notification-service "$TARGET_DIR/$PROFILE/notification-service" serve
}

# The live page is served by the user service and asks the notification service too.
live_copy_url() { printf '%s\n' "${LIVE_COPY_URL:-http://localhost:$NOTIFICATION_PORT}"; }
live_page_origins() { printf '%s\n' "${CORS_ORIGINS:-http://localhost:$USER_PORT,http://127.0.0.1:$USER_PORT}"; }

# await_service NAME URL: the services wait for what they need by themselves.
await_service() {
    wait_until_ready "$1" 60 is_ready "$2" || {
        show_log "$1"
        die "$1 is not ready: $2/readyz does not answer 200"
    }
}

is_ready() { [[ $(curl -s -o /dev/null -m 2 -w '%{http_code}' "$1/readyz") == 200 ]]; }

# The services drain for at most ten seconds by default.
stop_service() { stop_process "$1" TERM 30; }
