# shellcheck shell=bash
# What only members of the cluster may know. Whoever can write to etcd, or to Patroni's REST API, can
# have PostgreSQL run programs (archive_command): so etcd takes certificates only, and Patroni a password.

make_cluster_secrets() {
    local home
    home=$(cluster_home)
    [[ -s $home/tls/member.pem ]] || make_certificates "$home/tls"
    [[ -s $POSTGRES_PASSFILE ]] || make_passwords "$home"
}

# One certificate for all members, of an authority whose key is thrown away.
make_certificates() {
    require_programs openssl
    "${AS_POSTGRES[@]}" rm -rf "$1.new"
    issue_certificate "$1.new" >>"$(log_of certificates)" 2>&1 || {
        show_log certificates
        die "cannot make the certificates of the cluster"
    }
    "${AS_POSTGRES[@]}" mv "$1.new" "$1"
}

issue_certificate() {
    local directory=$1 openssl=("${AS_POSTGRES[@]}" openssl) key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)
    "${AS_POSTGRES[@]}" mkdir "$directory" &&
        "${openssl[@]}" req -x509 "${key[@]}" -days 3650 -subj "/CN=cluster authority" \
            -keyout "$directory/ca.key" -out "$directory/ca.pem" &&
        "${openssl[@]}" req "${key[@]}" -subj "/CN=cluster member" \
            -keyout "$directory/member.key" -out "$directory/member.csr" &&
        printf 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n' |
        "${AS_POSTGRES[@]}" tee "$directory/extensions" &&
        "${openssl[@]}" x509 -req -days 3650 -in "$directory/member.csr" -extfile "$directory/extensions" \
            -CA "$directory/ca.pem" -CAkey "$directory/ca.key" -CAcreateserial -out "$directory/member.pem" &&
        "${AS_POSTGRES[@]}" rm "$directory"/ca.key
}

make_passwords() {
    local superuser others
    superuser=$(random_password) others=$(random_password)
    "${AS_POSTGRES[@]}" tee "$1/passwords" >/dev/null <<<"$superuser $others"
    keep_password "$superuser"
}
