# shellcheck shell=bash
# The cluster of scripts/cluster: its members, their ports, and how they start and stop.

source "$ROOT/scripts/lib/cluster/secrets.sh"
source "$ROOT/scripts/lib/cluster/etcd.sh"
source "$ROOT/scripts/lib/cluster/patroni.sh"
source "$ROOT/scripts/lib/cluster/haproxy.sh"
source "$ROOT/scripts/lib/cluster/nats.sh"
source "$ROOT/scripts/lib/cluster/mongodb.sh"
source "$ROOT/scripts/lib/cluster/services.sh"

# In the order of their start. The PostgreSQL servers are not among them: Patroni starts those.
MEMBERS=(etcd-{1,2,3} patroni-{1,2} haproxy-{1,2} nats-{1,2,3} mongodb-{1,2,3})
MEMBERS+=(user-service-{1,2} notification-service-{1,2})

choose_cluster_ports() {
    USER_PORT=${USER_PORT:-8080} NOTIFICATION_PORT=${NOTIFICATION_PORT:-8081}
    POSTGRES_PORT=${POSTGRES_PORT:-5432}
    NATS_PORT=${NATS_PORT:-4222} NATS_MONITOR_PORT=${NATS_MONITOR_PORT:-8222}
    MONGODB_PORT=${MONGODB_PORT:-27017}
    MEMBER_PORTS=${MEMBER_PORTS:-18400}
    USER_URL=http://127.0.0.1:$USER_PORT NOTIFICATION_URL=http://127.0.0.1:$NOTIFICATION_PORT
    NATS_URL=$(each_of 3 nats://127.0.0.1:%s "$NATS_PORT") NATS_SHOWN=$NATS_URL
    MONGODB_URI="mongodb://$(each_of 3 127.0.0.1:%s "$MONGODB_PORT")/?replicaSet=rs0" MONGODB_SHOWN=$MONGODB_URI
    POSTGRES_PASSFILE=$STATE_DIR/cluster.pgpass
    POSTGRES_SHOWN="psql 'host=127.0.0.1 port=$POSTGRES_PORT user=postgres dbname=$POSTGRES_DATABASE passfile=$POSTGRES_PASSFILE'"
    SETTINGS+=({USER,NOTIFICATION,POSTGRES,NATS,NATS_MONITOR,MONGODB}_PORT MEMBER_PORTS)
}

# Of nobody, for a cluster beside others.
pick_cluster_ports() {
    local first
    first=$(pick_free_block 30)
    MEMBER_PORTS=$first NATS_PORT=$((first + 18)) NATS_MONITOR_PORT=$((first + 21)) MONGODB_PORT=$((first + 24))
    POSTGRES_PORT=$((first + 27)) USER_PORT=$((first + 28)) NOTIFICATION_PORT=$((first + 29))
}

# member_port NAME: the port of a member that only the proxies and other members use, of the 18 from
# MEMBER_PORTS on.
member_port() {
    local number=${1##*-} offset
    case $1 in
        etcd-peer-*) offset=3 ;;
        etcd-*) offset=0 ;;
        patroni-*) offset=6 ;;
        postgres-*) offset=8 ;;
        nats-route-*) offset=10 ;;
        user-service-*) offset=13 ;;
        notification-service-*) offset=15 ;;
        *) die "$1 has no port of its own" ;;
    esac
    printf '%s\n' "$((MEMBER_PORTS + offset + number - 1))"
}

# each_of COUNT FORMAT FIRST: the format with each of so many consecutive ports, separated by commas.
each_of() {
    local ports all
    mapfile -t ports < <(seq "$3" "$(($3 + $1 - 1))")
    # shellcheck disable=SC2059 # the format is the argument
    all=$(printf "$2," "${ports[@]}")
    printf '%s\n' "${all%,}"
}

require_free_cluster_ports() {
    require_free_ports USER_PORT NOTIFICATION_PORT POSTGRES_PORT
    require_free_block NATS_PORT 3
    require_free_block NATS_MONITOR_PORT 3
    require_free_block MONGODB_PORT 3
    require_free_block MEMBER_PORTS 18
}

# Directories and files of PostgreSQL's user are here, the configuration of etcd and HAProxy too.
cluster_home() { home_of cluster; }

find_cluster_programs() {
    find_postgres
    find_etcd
    find_patroni
    find_haproxy
    find_nats
    find_mongodb
}

prepare_cluster() {
    choose_postgres_user
    mkdir -p "$STATE_DIR/logs"
    [[ -e $STATE_DIR/cluster ]] || create_home cluster
    make_cluster_secrets
}

# Starts the members that do not run, and waits for all.
start_cluster() {
    local member
    prepare_cluster
    save_settings # whoever stops it needs its ports
    for member in "${MEMBERS[@]}"; do
        is_running "$member" && continue
        start_member "$member"
        case $member in
            haproxy-2) await_primary && cheapen_password && create_database ;;
            mongodb-3) await_replica_set ;;
        esac
    done
    await_cluster
}

# start_member NAME: without waiting for it.
start_member() {
    say "Starting $1"
    case $1 in
        etcd-*) start_etcd "$1" ;;
        patroni-*) start_patroni "$1" ;;
        haproxy-*) start_haproxy "$1" ;;
        nats-*) start_nats_member "$1" ;;
        mongodb-*) start_mongodb_member "$1" ;;
        user-service-*) start_user_service_member "$1" ;;
        notification-service-*) start_notification_service_member "$1" ;;
        *) die "the cluster has no member $1" ;;
    esac
}

await_cluster() {
    local service
    for service in user-service-{1,2} notification-service-{1,2}; do
        await_service "$service" "http://127.0.0.1:$(member_port "$service")"
    done
    wait_until 60 is_ready "$USER_URL" || die "no user service is ready behind the proxy"
    wait_until 60 is_ready "$NOTIFICATION_URL" || die "no notification service is ready behind the proxy"
    wait_until 120 standby_is_synchronous || die "the standby of PostgreSQL is not synchronous"
}

# Clients first. What Patroni leaves behind, should it have been killed, is stopped as well.
stop_cluster() {
    local member
    [[ -e $STATE_DIR/cluster ]] || return 0
    cluster_is_running && load_settings
    choose_cluster_ports
    stop_prometheus
    for member in {notification,user}-service-{1,2}; do stop_service "$member"; done
    for member in mongodb-{1,2,3} nats-{1,2,3}; do stop_process "$member" TERM 30; done
    stop_patroni
    for member in haproxy-{1,2} etcd-{1,2,3}; do stop_process "$member" TERM 10; done
}

wipe_cluster() {
    [[ ! -e $STATE_DIR/cluster ]] || rm -rf "$(cluster_home)"
    rm -rf "$STATE_DIR"/cluster "$STATE_DIR"/cluster.pgpass "$STATE_DIR"/{nats,mongodb}-{1,2,3}
}

# Prints the first member that was started and is no longer there.
first_dead_member() {
    local member
    for member in "${MEMBERS[@]}"; do
        if [[ -e $STATE_DIR/pids/$member ]] && ! is_running "$member"; then
            printf '%s\n' "$member"
            return
        fi
    done
}

# Whether any of it runs: then the ports and the settings are its own.
cluster_is_running() {
    local member
    for member in "${MEMBERS[@]}"; do
        ! is_running "$member" || return 0
    done
    return 1
}

cluster_is_complete() {
    local member
    for member in "${MEMBERS[@]}"; do
        is_running "$member" || return 1
    done
}
