# shellcheck shell=bash
# The stack of scripts/up: its settings, its processes and what is known of a running one.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
STATE_DIR=$(realpath -m "${STATE_DIR:-$ROOT/.local/state}")
TARGET_DIR=$(realpath -m "${CARGO_TARGET_DIR:-$ROOT/target}")
export CARGO_TARGET_DIR=$TARGET_DIR
cd "$ROOT" || exit

source "$ROOT/scripts/lib/output.sh"
source "$ROOT/scripts/lib/processes.sh"
source "$ROOT/scripts/lib/ports.sh"
source "$ROOT/scripts/lib/downloads.sh"
source "$ROOT/scripts/lib/postgres.sh"
source "$ROOT/scripts/lib/pgbouncer.sh"
source "$ROOT/scripts/lib/chromium.sh"
source "$ROOT/scripts/lib/nats.sh"
source "$ROOT/scripts/lib/mongodb.sh"
source "$ROOT/scripts/lib/services.sh"
source "$ROOT/scripts/lib/prometheus.sh"
source "$ROOT/scripts/lib/cluster.sh"

# use_profile NAME: the profile of cargo that programs are built with and started from.
use_profile() {
    PROFILE=$1
    DEVTOOL=$TARGET_DIR/$PROFILE/devtool
}
use_profile up

# In the order of their start.
PROCESSES=(postgres nats mongodb user-service notification-service prometheus)
SETTINGS=(PROFILE USER_URL NOTIFICATION_URL DATABASE_URL NATS_URL MONGODB_URI)
# What people are shown of the servers: never a URL that somebody else has set, nor a password.
SETTINGS+=(POSTGRES_SHOWN NATS_SHOWN MONGODB_SHOWN)
SETTINGS+=(PROMETHEUS_URL)

# One scripts/up or scripts/cluster at a time per STATE_DIR; the lock is held until the stack is ready.
take_turns() {
    mkdir -p "$STATE_DIR"
    exec 9>"$STATE_DIR/lock"
    flock --nonblock 9 || {
        say "Waiting for another scripts/up to finish"
        flock 9
    }
}

# Servers that are named by a URL run elsewhere; the others are started here.
choose_servers() {
    POSTGRES_SHOWN="elsewhere: DATABASE_URL" NATS_SHOWN="elsewhere: NATS_URL" MONGODB_SHOWN="elsewhere: MONGODB_URI"
    SERVERS=() PORTS=()
    if [[ -z ${DATABASE_URL:-} ]]; then
        SERVERS+=(postgres) PORTS+=(POSTGRES_PORT)
        POSTGRES_PORT=${POSTGRES_PORT:-5432}
        POSTGRES_SHOWN="psql 'host=127.0.0.1 port=$POSTGRES_PORT user=postgres dbname=$POSTGRES_DATABASE passfile=$STATE_DIR/pgpass'"
    fi
    if [[ -z ${NATS_URL:-} ]]; then
        SERVERS+=(nats) PORTS+=(NATS_PORT NATS_MONITOR_PORT)
        NATS_PORT=${NATS_PORT:-4222} NATS_MONITOR_PORT=${NATS_MONITOR_PORT:-8222}
        NATS_URL=nats://127.0.0.1:$NATS_PORT
        NATS_SHOWN="$NATS_URL (monitor: http://127.0.0.1:$NATS_MONITOR_PORT)"
    fi
    if [[ -z ${MONGODB_URI:-} ]]; then
        SERVERS+=(mongodb) PORTS+=(MONGODB_PORT)
        MONGODB_PORT=${MONGODB_PORT:-27017}
        MONGODB_URI=mongodb://127.0.0.1:$MONGODB_PORT MONGODB_SHOWN=mongodb://127.0.0.1:$MONGODB_PORT
    fi
    PORTS+=(USER_PORT NOTIFICATION_PORT)
    USER_PORT=${USER_PORT:-8080} NOTIFICATION_PORT=${NOTIFICATION_PORT:-8081}
    USER_URL=http://127.0.0.1:$USER_PORT NOTIFICATION_URL=http://127.0.0.1:$NOTIFICATION_PORT
}

# Finds, before anything is started or built, the programs of the servers to start.
find_servers() {
    local server
    for server in "${SERVERS[@]}"; do "find_$server"; done
}

# start NAME [ARGUMENT...]: runs start_NAME and shows the log when the process does not get ready.
start() {
    say "Starting $1"
    "start_${1//-/_}" "${@:2}" || {
        show_log "$1"
        die "$1 did not start"
    }
}

stop_stack() {
    stop_prometheus
    stop_service notification-service
    stop_service user-service
    stop_mongodb
    stop_nats
    stop_postgres
}

# Prints the first process that was started and is no longer there.
first_dead() {
    local name
    for name in "${PROCESSES[@]}"; do
        if [[ -e $STATE_DIR/pids/$name ]] && ! is_running "$name"; then
            printf '%s\n' "$name"
            return
        fi
    done
}

stack_is_running() {
    is_running user-service && is_running notification-service && [[ -z $(first_dead) ]]
}

# A stack is asked for by its STATE_DIR alone, whatever ports it was started with. The file may
# hold passwords.
save_settings() {
    local setting
    (
        umask 077
        rm -f "$STATE_DIR/settings"
        for setting in "${SETTINGS[@]}"; do printf '%s=%q\n' "$setting" "${!setting:-}"; done >"$STATE_DIR/settings"
    )
}

print_urls() {
    cat <<END
  users           $USER_URL/users
  notifications   $NOTIFICATION_URL/notifications
  live page       $USER_URL/live
  PostgreSQL      $POSTGRES_SHOWN
  NATS            $NATS_SHOWN
  MongoDB         $MONGODB_SHOWN
  logs            $STATE_DIR/logs
END
    ! is_running prometheus || say "  Prometheus      $PROMETHEUS_URL (alerts: $PROMETHEUS_URL/alerts)"
}

load_settings() {
    if stack_is_running || cluster_is_running; then
        # shellcheck source=/dev/null
        source "$STATE_DIR/settings"
        use_profile "$PROFILE"
    else
        choose_servers
    fi
}
