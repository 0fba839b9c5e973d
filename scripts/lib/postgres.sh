# shellcheck shell=bash
# A private PostgreSQL cluster: on loopback only, and only for who has its password, since a
# superuser can run programs (copy … from program). The password is in STATE_DIR/pgpass, which
# psql and the services read when PGPASSFILE names it.

POSTGRES_DATABASE=users_db

# The directory of initdb and postgres: PG_BIN, else the newest that Debian has, else the PATH.
find_postgres() {
    if [[ -z ${PG_BIN:-} ]]; then
        PG_BIN=$(installed_postgres) || install_postgres
        PG_BIN=${PG_BIN:-$(installed_postgres)} || die "PostgreSQL was installed and cannot be found"
    fi
    [[ -x $PG_BIN/initdb && -x $PG_BIN/postgres ]] || die "PG_BIN=$PG_BIN holds no initdb and postgres"
}

installed_postgres() {
    local newest
    newest=$(printf '%s\n' /usr/lib/postgresql/*/bin/initdb | sort -V | tail -n 1)
    [[ -x $newest ]] || newest=$(command -v initdb) || return 1
    dirname "$(readlink -f "$newest")"
}

install_postgres() {
    # Debian would at once create and start a cluster of its own on port 5432.
    if [[ $EUID -eq 0 ]] && command -v apt-get >/dev/null; then
        mkdir -p /etc/postgresql-common/createcluster.d
        printf 'create_main_cluster = false\n' >/etc/postgresql-common/createcluster.d/no-main-cluster.conf
    fi
    apt_install postgresql ||
        die "PostgreSQL is needed: install it (Debian: sudo apt-get install postgresql), or name a server with DATABASE_URL, or the directory of its programs with PG_BIN"
}

# start_postgres [SETTING...]: starts the server on POSTGRES_PORT and creates the database.
start_postgres() {
    local setting settings=()
    for setting in "$@"; do settings+=(-c "$setting"); done
    create_cluster
    start_process postgres "${AS_POSTGRES[@]}" "$PG_BIN/postgres" -D "$(postgres_home)/data" \
        -p "$POSTGRES_PORT" -c listen_addresses=127.0.0.1 -c unix_socket_directories= "${settings[@]}"
    wait_until_ready postgres 60 postgres_answers || return 1
    create_database
}

create_cluster() {
    choose_postgres_user
    [[ -e $STATE_DIR/postgres ]] || create_home postgres
    local home
    home=$(postgres_home)
    mkdir -p "$STATE_DIR/logs"
    if [[ ! -e $home/data ]]; then
        rm -f "$(passfile)"
        # A cluster appears whole or not at all.
        "${AS_POSTGRES[@]}" rm -rf "$home/data.new"
        "${AS_POSTGRES[@]}" "$PG_BIN/initdb" -D "$home/data.new" --username=postgres --auth=reject \
            --encoding=UTF8 --locale=C.UTF-8 --no-instructions >"$(log_of initdb)" 2>&1 || {
            show_log initdb
            die "initdb failed"
        }
        "${AS_POSTGRES[@]}" mv "$home/data.new" "$home/data"
    fi
    # Clusters of former versions let everyone in.
    [[ -s $(passfile) ]] || require_password "$home/data"
}

# require_password DATA: gives the superuser a new password and lets nobody in without it.
require_password() {
    local password verifier
    read -r password verifier < <(new_password)
    "${AS_POSTGRES[@]}" tee "$1/pg_hba.conf" >/dev/null <<<'host all all 127.0.0.1/32 scram-sha-256'
    "${AS_POSTGRES[@]}" "$PG_BIN/postgres" --single -D "$1" -c exit_on_error=on postgres \
        <<<"alter role postgres password '$verifier'" >>"$(log_of initdb)" 2>&1 || {
        show_log initdb
        die "cannot set the password of PostgreSQL"
    }
    keep_password "$password"
}

# Of the cluster, or of the single server: STATE_DIR may hold the data of both.
passfile() { printf '%s\n' "${POSTGRES_PASSFILE:-$STATE_DIR/pgpass}"; }

keep_password() {
    local file
    file=$(passfile)
    rm -f "$file.new"
    (umask 077 && printf '*:*:*:postgres:%s\n' "$1" >"$file.new")
    mv "$file.new" "$file"
}

# Prints a random password, and what the server keeps of it.
new_password() {
    local password
    password=$(random_password)
    printf '%s %s\n' "$password" "$(verifier_of "$password")"
}

random_password() { python3 -c 'import secrets; print(secrets.token_hex(16))'; }

# verifier_of PASSWORD: what the server keeps of it (RFC 5803). 128 random bits cannot be guessed, so
# one iteration is as good as many, and connecting stays cheap.
verifier_of() {
    PASSWORD=$1 python3 - <<'PYTHON'
import base64, hashlib, hmac, os, secrets
password, salt = os.environ["PASSWORD"], secrets.token_bytes(16)
salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 1)
stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
server = hmac.digest(salted, b"Server Key", "sha256")
salt, stored, server = (base64.b64encode(part).decode() for part in (salt, stored, server))
print(f"SCRAM-SHA-256$1:{salt}${stored}:{server}")
PYTHON
}

# postgres_url DATABASE: holds the password.
postgres_url() {
    local password
    IFS=: read -r _ _ _ _ password <"$(passfile)"
    printf 'postgres://postgres:%s@127.0.0.1:%s/%s\n' "$password" "$POSTGRES_PORT" "$1"
}

# PostgreSQL refuses to run as root.
choose_postgres_user() {
    AS_POSTGRES=(env -C /)
    if [[ $EUID -eq 0 ]]; then
        getent passwd postgres >/dev/null || die "root cannot run PostgreSQL, and there is no user postgres"
        AS_POSTGRES=(setpriv --reuid=postgres --regid=postgres --init-groups env -C / HOME=/)
    fi
}

# create_home NAME: the user postgres may not be able to enter the checkout (root's home is closed to
# others), so for root the data lives in that user's home, and STATE_DIR/NAME is a link to it.
create_home() {
    mkdir -p "$STATE_DIR"
    if [[ $EUID -eq 0 ]]; then
        local parent
        parent=$(getent passwd postgres | cut -d: -f6)
        ln -s "$("${AS_POSTGRES[@]}" mktemp -d "$parent/users-pipeline.XXXXXX")" "$STATE_DIR/$1"
    else
        mkdir -m 700 "$STATE_DIR/$1"
    fi
}

home_of() { readlink -f "$STATE_DIR/$1"; }

postgres_home() { home_of postgres; }

wipe_postgres() {
    [[ ! -e $STATE_DIR/postgres ]] || rm -rf "$(postgres_home)"
    rm -f "$STATE_DIR/postgres" "$STATE_DIR/pgpass"
}

postgres_answers() { "$PG_BIN/pg_isready" -q -h 127.0.0.1 -p "$POSTGRES_PORT" -U postgres -d postgres; }

create_database() {
    local psql=(env PGPASSFILE="$(passfile)" "$PG_BIN/psql" -X -q -w -h 127.0.0.1 -p "$POSTGRES_PORT" -U postgres -d postgres -At)
    [[ $("${psql[@]}" -c "select count(*) from pg_database where datname = '$POSTGRES_DATABASE'") == 1 ]] ||
        "${psql[@]}" -c "create database $POSTGRES_DATABASE"
}

# Fast shutdown: it does not wait for clients to leave.
stop_postgres() { stop_process postgres INT 30; }
