# as: ada, bob
# What an ordinary user gets: networks where AppArmor forbids pasta a pid, containers as runc runs
# them.

a_private_network_with_a_port() {
    garth wrap -d --name net-$USER -p 127.0.0.1:$((8000 + UID)):8080 -- busybox httpd -f -p 8080 -h /etc
    eventually curl -sf http://127.0.0.1:$((8000 + UID))/hostname
    garth kill net-$USER
    eventually is_gone net-$USER
    # Nothing is left holding the port.
    garth wrap --network private -p 127.0.0.1:$((8000 + UID)):8080 -- true
    say "$(garth doctor | grep 'private network')"
}

a_container() {
    mkdir -p bundle && cd bundle && ln -sfn ../rootfs rootfs
    garth spec --rootless
    jq '.process.args = ["echo", "inside"] | .process.terminal = false' config.json >new && mv new config.json
    equals "$(garth run c-$USER)" inside
    equals "$(garth --systemd-cgroup run s-$USER)" inside
}

podman_with_the_systemd_manager() {
    podman info --format '{{.Host.CgroupManager}}'
    podman import -q busybox.tar busybox
    equals "$(podman --runtime /usr/local/bin/garth run --rm --network none busybox echo inside)" inside
    output=$(podman --runtime /usr/local/bin/garth run --rm --network none --memory 64m --pids-limit 50 busybox \
        cat /proc/self/cgroup)
    say "$output"
}
