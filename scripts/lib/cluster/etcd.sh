# shellcheck shell=bash
# Three etcd servers, where Patroni keeps who is the primary: a majority of them has to agree.

find_etcd() {
    # Debian would at once start a server of its own.
    command -v etcd >/dev/null || install_stopped etcd-server ||
        die "etcd is needed (Debian: sudo apt-get install etcd-server)"
}

start_etcd() {
    local name=$1 home tls peers peer
    home=$(cluster_home)
    for peer in etcd-{1,2,3}; do
        peers+=${peers:+,}$peer=https://127.0.0.1:$(member_port "etcd-peer-${peer##*-}")
    done
    tls=(--cert-file "$home/tls/member.pem" --key-file "$home/tls/member.key"
        --trusted-ca-file "$home/tls/ca.pem" --client-cert-auth
        --peer-cert-file "$home/tls/member.pem" --peer-key-file "$home/tls/member.key"
        --peer-trusted-ca-file "$home/tls/ca.pem" --peer-client-cert-auth)
    # A majority is found within about a second, also where all share a few busy processors.
    start_process "$name" "${AS_POSTGRES[@]}" etcd --name "$name" --data-dir "$home/$name" "${tls[@]}" \
        --listen-client-urls "https://127.0.0.1:$(member_port "$name")" \
        --advertise-client-urls "https://127.0.0.1:$(member_port "$name")" \
        --listen-peer-urls "https://127.0.0.1:$(member_port "etcd-peer-${name##*-}")" \
        --initial-advertise-peer-urls "https://127.0.0.1:$(member_port "etcd-peer-${name##*-}")" \
        --initial-cluster "$peers" --initial-cluster-token "$(basename "$home")" \
        --heartbeat-interval 150 --election-timeout 1500 \
        --enable-v2 --quota-backend-bytes 67108864 --auto-compaction-mode periodic --auto-compaction-retention 1h \
        --log-level warn
}
