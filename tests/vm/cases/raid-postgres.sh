# as: root
# guest: mdadm open-iscsi dash postgresql-15 postgresql-client-15
# A database on a RAID volume, in a sandbox, while servers die.

_bin() { ls -d /usr/lib/postgresql/*/bin; }
_pg() { garth exec pg "$(_bin)/$1" -h /srv/data "${@:2}"; }
_lost() { [ "$({ garth volume status data --format json || true; } | jq '[.arrays[].members[] | select(.state != "in-sync")] | length')" = "$1" ]; }

a_database_loses_no_transaction_while_two_of_three_servers_die_and_one_returns() {
    DISK=160
    _servers
    garth volume create data --mirrors 3 --stripes 2 --assume-clean "${DISKS[@]}"
    garth wrap -v data:/srv/data -u postgres -- "$(_bin)/initdb" -D /srv/data --no-sync --data-checksums --wal-segsize=4 \
        --auth=trust --locale=C >/tmp/initdb
    garth wrap -d --name pg -v data:/srv/data -u postgres -- "$(_bin)/postgres" -D /srv/data -c listen_addresses= \
        -c unix_socket_directories=/srv/data -c shared_buffers=16MB -c max_wal_size=64MB -c min_wal_size=16MB \
        -c checkpoint_timeout=30s
    eventually _pg pg_isready
    _pg pgbench --initialize --quiet --scale=2 postgres
    _pg pgbench --client=2 --time=100 --progress=10 postgres >/tmp/pgbench 2>&1 &
    bench=$!
    sleep 10
    _down 1
    eventually _lost 2
    sleep 10
    _down 2
    eventually _lost 4
    contains "$(garth volume status data || true)" "may still lose no device"
    sleep 10
    _up 1
    _connected() { { garth volume status data --format json || true; } | jq -e '[.arrays[].members[0].connected] | all' >/dev/null; }
    eventually _connected
    # The other server is still away, which is said.
    contains "$(fails garth volume repair data)" 10.0.2.1
    eventually _lost 2
    # The third: what the first has missed is read from what it was given again.
    _down 3
    eventually _lost 4
    wait $bench
    sed 's/^/# /' /tmp/pgbench
    contains "$(cat /tmp/pgbench)" "number of failed transactions: 0 (0.000%)"
    _pg psql -c 'CREATE EXTENSION amcheck' postgres
    _pg pg_amcheck --heapallindexed --parent-check --all
    equals "$(_pg psql -At -c 'SELECT sum(abalance) = (SELECT sum(delta) FROM pgbench_history) FROM pgbench_accounts' postgres)" t
    say "$(_pg psql -At -c 'SELECT count(*) FROM pgbench_history' postgres) transactions in the history"
    garth logs pg | grep RAID | sed 's/^/# /'
    garth kill pg
    eventually is_gone pg
    garth wrap -v data:/srv/data -u postgres -- "$(_bin)/pg_checksums" --check -D /srv/data
    _up 2
    _up 3
    garth volume stop data
    garth volume assemble --degraded data
    garth wrap -v data:/srv/data -u postgres -- "$(_bin)/pg_checksums" --check -D /srv/data
    garth volume destroy data
}
