# as: root
# podman with the systemd cgroup manager, Debian's default.

a_container_in_a_scope() {
    podman import -q busybox.tar busybox
    equals "$(podman info --format '{{.Host.CgroupManager}}')" systemd
    equals "$(podman --runtime /usr/local/bin/garth run --rm --network none busybox echo inside)" inside
    podman --runtime /usr/local/bin/garth run -d --name limited --network none --memory 64m --pids-limit 50 busybox sleep 1000
    scope=$(find /sys/fs/cgroup/machine.slice -name 'libpod-*.scope' ! -name '*conmon*')
    equals "$(cat "$scope/memory.max" "$scope/pids.max" | tr '\n' ' ')" '67108864 50 '
    podman --runtime /usr/local/bin/garth update --memory 128m limited || true
    podman exec limited true
    podman rm -f -t 0 limited
    eventually test ! -e "$scope"
}

limits_are_in_force() {
    podman --runtime /usr/local/bin/garth run --rm --network none --memory 32m --memory-swap 32m busybox \
        sh -c 'head -c 100000000 /dev/zero | tail' && fail 'it ended well'
    [ $? != 0 ]
}
