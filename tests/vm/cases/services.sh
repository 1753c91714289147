# as: root
# Units of packages as services of Garth, and services as units, under systemd.

an_imported_unit_is_exported_and_runs() {
    systemctl stop redis-server
    garth import systemd redis-server >/root/redis.toml
    exported /root/redis.toml redis-server
    systemctl start garth-redis-server.service
    eventually bash -c 'redis-cli ping | grep -x PONG'
    equals "$(garth exec redis-server -- sh -c 'id -un; ulimit -Hn')" "redis
65535"
    ends_cleanly redis-server
    systemctl start redis-server
}

a_forking_daemon_is_in_the_foreground() {
    systemctl stop nginx
    garth import systemd nginx >/root/nginx.toml
    exported /root/nginx.toml nginx
    systemctl start garth-nginx.service
    eventually curl -sf http://127.0.0.1/
    ends_cleanly nginx
    systemctl start nginx
}

NOTIFIES='
import os, signal, socket, time
def tell(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])
def reload(*_):
    tell("RELOADING=1")
    tell("READY=1\nSTATUS=loaded again")
signal.signal(signal.SIGHUP, reload)
time.sleep(2)
tell("READY=1\nSTATUS=100% ready")
while True: time.sleep(1)
'

a_service_that_notifies_is_active_when_it_says_so() {
    cat >/root/notifies.toml <<END
[service.notifies]
command = ["python3", "-c", '''$NOTIFIES''']
clear-env = true
memory = "64m"
stop-timeout = "20s"
END
    exported /root/notifies.toml notifies --notify
    systemctl start --no-block garth-notifies.service
    eventually unit_is garth-notifies.service ActiveState activating
    eventually unit_is garth-notifies.service ActiveState active
    equals "$(systemctl show -P StatusText garth-notifies.service)" '100% ready'
    garth kill notifies HUP
    eventually unit_is garth-notifies.service StatusText 'loaded again'
    systemctl stop garth-notifies.service
    eventually is_gone notifies
}

failures_in_a_row_are_counted() {
    cat >/root/fails.toml <<'END'
[service.fails]
command = ["sh", "-c", "echo start >>/root/starts; exit 3"]
rw = ["/root/starts"]
restart = "on-failure:2"
END
    : >/root/starts
    exported /root/fails.toml fails
    systemctl start --no-block garth-fails.service
    eventually unit_is garth-fails.service ActiveState failed
    equals "$(wc -l </root/starts)" 3
    equals "$(systemctl show -P ExecMainStatus garth-fails.service)" 3
    systemctl reset-failed garth-fails.service
}

a_stop_signal_ends_a_service() {
    cat >/root/quits.toml <<'END'
[service.quits]
command = ["sh", "-c", "echo up; exec sleep 1000"]
stop-signal = "QUIT"
stop-timeout = "20s"
END
    exported /root/quits.toml quits
    systemctl start garth-quits.service
    eventually is_there quits
    equals "$(systemctl show -P KillSignal garth-quits.service)" 3
    ends_cleanly quits
}

a_file_of_services_is_a_unit() {
    mkdir -p /etc/garth
    cat >/etc/garth/pair.toml <<'END'
[service.one]
command = ["sleep", "1000"]
memory = "64m"
[service.two]
command = ["sleep", "1000"]
after = ["one"]
END
    systemctl start garth@pair
    unit_is garth@pair ActiveState active
    for name in one two; do is_there $name; done
    contains "$(tree garth@pair.service)" garth@pair.service/garth/one/cgroup.procs
    printf '[service.three]\ncommand = ["sleep", "1000"]\n' >>/etc/garth/pair.toml
    systemctl reload garth@pair
    for name in one two three; do is_there $name; done
    systemctl stop garth@pair
    unit_is garth@pair Result success
    for name in one two three; do is_gone $name; done
    rm /etc/garth/pair.toml
}

what_was_up_at_shutdown_is_up_again_after_a_boot() {
    cat >/root/kept.toml <<'END'
[service.kept]
command = ["sleep", "1000"]
[service.always]
command = ["sleep", "1000"]
restart = "always"
memory = "64m"
END
    garth up -f /root/kept.toml
    systemctl start garth
    # As at a shutdown, then as at a boot.
    systemctl stop garth
    unit_is garth.service Result success
    # They stay on record.
    lacks "$(garth ps)" ' running '
    systemctl start garth
    equals "$(garth ps | grep -c ' running ')" 2
    contains "$(tree garth.service)" garth.service/garth/always/cgroup.procs
    # Again, now that they are of this unit.
    systemctl stop garth
    unit_is garth.service Result success
    lacks "$(garth ps)" ' running '
    garth down --all
}

the_journal_has_what_a_service_writes() {
    cat >/root/talks.toml <<'END'
[service.talks]
command = ["sh", "-c", "seq -f 'line %.0f' 3000; echo bad >&2; until [ -e /root/go ]; do sleep 0.2; done; echo after; exit 1"]
restart = "on-failure:1"
END
    rm -f /root/go
    garth up -d -f /root/talks.toml
    eventually bash -c 'garth logs talks | grep -x bad'
    # The streams of journald outlive it.
    systemctl restart systemd-journald
    touch /root/go
    eventually bash -c '[ "$(garth logs talks | grep -c after)" = 2 ]'
    equals "$(garth logs talks | grep ^line | md5sum)" "$( (seq -f 'line %.0f' 3000; seq -f 'line %.0f' 3000) | md5sum)"
    equals "$(journalctl -q -t talks -p err -o cat)" "bad
bad"
    equals "$(garth logs -n 1 talks)" after
    garth down -f /root/talks.toml
}
