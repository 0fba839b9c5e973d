# shellcheck shell=bash
# Two PostgreSQL servers under Patroni: a primary and its synchronous standby.
# docs/high-availability.md gives the reason for each setting. The second version of etcd's API is used,
# because with the third one, Patroni before 3.0.3 takes the lock back from a new primary when the old one
# wakes up (patroni/patroni#2689), and what the new one has acknowledged is lost.

find_patroni() {
    command -v patroni >/dev/null || install_stopped patroni ||
        die "Patroni is needed (Debian: sudo apt-get install patroni)"
}

# start_patroni NAME: it makes the cluster, or a copy of the primary, if there is no data yet.
start_patroni() {
    local home
    home=$(cluster_home)
    patroni_configuration "$1" "postgres-${1##*-}" "$home" |
        "${AS_POSTGRES[@]}" tee "$home/$1.yml" >/dev/null || return
    start_process "$1" "${AS_POSTGRES[@]}" patroni "$home/$1.yml"
}

# patroni_configuration PATRONI POSTGRES HOME
patroni_configuration() {
    local superuser others home=$3
    read -r superuser others < <("${AS_POSTGRES[@]}" cat "$home/passwords")
    cat <<END
scope: users
name: $2
restapi:
  listen: 127.0.0.1:$(member_port "$1")
  connect_address: 127.0.0.1:$(member_port "$1")
  authentication: {username: patroni, password: $others}
etcd:
  hosts: $(each_of 3 127.0.0.1:%s "$(member_port etcd-1)")
  protocol: https
  cacert: $home/tls/ca.pem
  cert: $home/tls/member.pem
  key: $home/tls/member.key
bootstrap:
  dcs:
    ttl: 10
    loop_wait: 2
    retry_timeout: 4
    primary_start_timeout: 0
    synchronous_mode: true
    failsafe_mode: true
    postgresql:
      use_pg_rewind: true
      parameters:
        shared_buffers: 32MB
        max_connections: 200
        max_wal_size: 256MB
        wal_keep_size: 64MB
        wal_sender_timeout: 5s
        wal_receiver_timeout: 5s
        wal_log_hints: on
  initdb: [encoding: UTF8, locale: C.UTF-8, data-checksums, auth: scram-sha-256]
  pg_hba:
    - host all all 127.0.0.1/32 scram-sha-256
    - host replication replicator 127.0.0.1/32 scram-sha-256
postgresql:
  listen: 127.0.0.1:$(member_port "$2")
  connect_address: 127.0.0.1:$(member_port "$2")
  data_dir: $home/$2
  bin_dir: $PG_BIN
  pgpass: $home/$2.pgpass
  basebackup: [checkpoint: fast]
  remove_data_directory_on_rewind_failure: true
  remove_data_directory_on_diverged_timelines: true
  authentication:
    superuser: {username: postgres, password: $superuser}
    replication: {username: replicator, password: $others}
  parameters: {unix_socket_directories: ''}
watchdog: {mode: 'off'}
END
}

# Through the proxy, as the services come to it.
await_primary() {
    wait_until 120 postgres_answers || {
        show_log patroni-1
        die "PostgreSQL has no primary"
    }
}

# Patroni has set a verifier of 4,096 iterations, which each new connection would pay for.
cheapen_password() {
    local password
    IFS=: read -r _ _ _ _ password <"$(passfile)"
    printf "alter role postgres password '%s'\n" "$(verifier_of "$password")" |
        PGPASSFILE=$(passfile) "$PG_BIN/psql" -X -q -w -h 127.0.0.1 -p "$POSTGRES_PORT" -U postgres -d postgres
}

standby_is_synchronous() {
    local name
    for name in patroni-{1,2}; do
        [[ $(patroni_says "$name" sync) != 200 ]] || return 0
    done
    return 1
}

# patroni_says NAME CHECK: the status of one of Patroni's health checks (primary, replica, sync …).
patroni_says() { curl -s -o /dev/null -m 2 -w '%{http_code}' "http://127.0.0.1:$(member_port "$1")/$2"; }

# Both at once is not wanted: the standby first, so that nothing is promoted. Patroni stops its server.
stop_patroni() {
    local name names=(patroni-1 patroni-2) number pid
    choose_postgres_user
    [[ ! -e $STATE_DIR/pids/patroni-1 || $(patroni_says patroni-1 replica) != 200 ]] || names=(patroni-2 patroni-1)
    # It waits for its server to end.
    for number in 1 2; do
        if pid=$(postgres_pid "$number"); then continue_process "$pid"; fi
    done
    for name in "${names[@]}"; do stop_process "$name" TERM 30; done
    for number in 1 2; do
        pid=$(postgres_pid "$number") || continue
        record_process "postgres-$number" "$pid"
        stop_process "postgres-$number" INT 30
    done
    rm -f "$STATE_DIR"/pids/postgres-{1,2}
}

# postgres_pid NUMBER: its server's, if that runs.
postgres_pid() {
    local pid file
    file=$(cluster_home)/postgres-$1/postmaster.pid
    read -r pid 2>/dev/null <"$file" || return 1
    [[ $(readlink "/proc/$pid/exe") == "$PG_BIN/postgres" ]] || return 1
    printf '%s\n' "$pid"
}

# Patroni starts and replaces the servers, so their processes are recorded when somebody asks.
record_postgres() {
    local number pid
    for number in 1 2; do
        if pid=$(postgres_pid "$number"); then
            record_process "postgres-$number" "$pid"
        else
            rm -f "$STATE_DIR/pids/postgres-$number"
        fi
    done
}

patronictl() {
    choose_postgres_user
    "${AS_POSTGRES[@]}" patronictl -c "$(cluster_home)/patroni-1.yml" "$@"
}
