# shellcheck shell=bash
# Two proxies in front of PostgreSQL and of the services. Both listen on the same ports, and the
# system gives new connections to whichever is alive; across hosts a virtual address does that.

find_haproxy() {
    command -v haproxy >/dev/null || PATH=$PATH:/usr/sbin
    command -v haproxy >/dev/null || install_stopped haproxy ||
        die "HAProxy is needed (Debian: sudo apt-get install haproxy)"
}

start_haproxy() {
    local home
    home=$(cluster_home)
    haproxy_configuration | "${AS_POSTGRES[@]}" tee "$home/$1.cfg" >/dev/null || return
    start_process "$1" "${AS_POSTGRES[@]}" haproxy -db -f "$home/$1.cfg"
}

haproxy_configuration() {
    cat <<END
global
    maxconn 4000
    log stdout format raw daemon notice

defaults
    log global
    timeout connect 1s
    timeout check 1s
    option redispatch
    default-server check inter 1s fastinter 500ms fall 2 rise 1 on-marked-down shutdown-sessions

listen postgres
    bind 127.0.0.1:$POSTGRES_PORT
    mode tcp
    maxconn 1000
    timeout client 1h
    timeout server 1h
    option clitcpka
    option srvtcpka
    option httpchk
    http-check send meth OPTIONS uri /primary
    http-check expect status 200
    server postgres-1 127.0.0.1:$(member_port postgres-1) check port $(member_port patroni-1)
    server postgres-2 127.0.0.1:$(member_port postgres-2) check port $(member_port patroni-2)

defaults
    log global
    mode http
    timeout connect 1s
    timeout check 2s
    timeout client 60s
    timeout server 60s
    timeout http-request 10s
    timeout http-keep-alive 20s
    option forwardfor
    option redispatch
    retry-on conn-failure
    balance leastconn
    default-server check inter 1s fastinter 500ms fall 2 rise 1

listen user-service
    bind 127.0.0.1:$USER_PORT
    option httpchk
    http-check send meth GET uri /readyz?exclude=relay hdr Host localhost
    server user-service-1 127.0.0.1:$(member_port user-service-1)
    server user-service-2 127.0.0.1:$(member_port user-service-2)

listen notification-service
    bind 127.0.0.1:$NOTIFICATION_PORT
    option httpchk
    http-check send meth GET uri /readyz?exclude=projector,deliveries,lag,holes hdr Host localhost
    server notification-service-1 127.0.0.1:$(member_port notification-service-1)
    server notification-service-2 127.0.0.1:$(member_port notification-service-2)
END
}
