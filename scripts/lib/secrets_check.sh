# shellcheck shell=bash
# Passwords: the scripts neither print them nor hand them to a program as an argument, where every
# user of this host could read them; and a private PostgreSQL asks for its own.

check_secrets() {
    (check_passwords_of_urls) && (check_password_of_postgres)
}

# The scripts of a stack whose servers run elsewhere, with programs that note how they were called.
check_passwords_of_urls() {
    local directory secret=hunter2 program
    directory=$(mktemp -d "$STATE_DIR/secrets.XXXXXX") || return
    export NOTES=$directory/notes STATE_DIR=$directory/state CARGO_TARGET_DIR=$directory/target
    export DATABASE_URL=postgres://ada:$secret@db/users_db
    export NATS_URL=nats://ada:$secret@a:4222,nats://eve:$secret@b:4222
    export MONGODB_URI="mongodb://ada:$secret@a,b/?replicaSet=rs0"
    USER_PORT=$(pick_free_port) NOTIFICATION_PORT=$(pick_free_port)
    export USER_PORT NOTIFICATION_PORT
    mkdir -p "$NOTES" "$directory/bin" "$CARGO_TARGET_DIR/up" || return
    for program in bin/cargo bin/curl target/up/{devtool,user-service,notification-service}; do
        write_stub "$directory/$program" || return
    done

    PATH=$directory/bin:$PATH
    {
        scripts/up --detach && scripts/up --detach && scripts/watch --count 1 && scripts/down
    } >"$directory/output" 2>&1 || {
        cat "$directory/output" >&2
        return 1
    }
    for program in devtool user-service notification-service; do
        grep -q "$secret" "$NOTES/$program.environment" || {
            warn "$program was not told the password by its environment"
            return 1
        }
    done
    must_not_hold "$secret" "$directory/output" "$NOTES"/*.arguments "$STATE_DIR/logs"
}

# write_stub PATH: a program that notes its arguments and its environment. The services stay.
write_stub() {
    cat >"$1" <<'STUB' && chmod +x "$1"
#!/usr/bin/env bash
note=$NOTES/$(basename "$0")
printf '%s\n' "$*" >>"$note.arguments"
env >>"$note.environment"
case $(basename "$0") in
    curl) printf 200 ;;
    *-service) exec sleep 600 ;;
esac
STUB
}

check_password_of_postgres() {
    local status=0
    STATE_DIR=$(mktemp -d "$STATE_DIR/postgres.XXXXXX") || return
    find_postgres
    POSTGRES_PORT=$(pick_free_port)
    start_postgres && asks_for_its_password || status=1
    stop_postgres
    wipe_postgres
    return "$status"
}

asks_for_its_password() {
    local password psql=("$PG_BIN/psql" -X -w -h localhost -p "$POSTGRES_PORT" -U postgres -Atc 'select 1')
    if PGPASSFILE=/dev/null "${psql[@]}" >/dev/null 2>&1; then
        warn "PostgreSQL lets everyone in"
        return 1
    fi
    [[ $(PGPASSFILE=$STATE_DIR/pgpass "${psql[@]}") == 1 ]] || return
    [[ $(stat -c %a "$STATE_DIR/pgpass") == 600 ]] || {
        warn "others can read $STATE_DIR/pgpass"
        return 1
    }
    password=$(cut -d: -f5 "$STATE_DIR/pgpass")
    cat /proc/[0-9]*/cmdline >"$STATE_DIR/arguments" 2>/dev/null # some end meanwhile
    must_not_hold "$password" "$STATE_DIR/arguments" "$STATE_DIR/logs"
}

# must_not_hold SECRET FILE...
must_not_hold() {
    local found
    if found=$(grep -rlF "$@"); then
        warn "a password is in $found"
        return 1
    fi
}
