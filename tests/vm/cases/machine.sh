# as: root, ada
# The machine is as documented.

systemd_is_pid_1_on_a_unified_tree() {
    equals "$(cat /proc/1/comm)" systemd
    equals "$(stat -fc %T /sys/fs/cgroup)" cgroup2fs
}

apparmor_confines_pasta() {
    contains "$(cat /sys/kernel/security/lsm)" apparmor
    grep -q . /etc/apparmor.d/usr.bin.passt
}

a_command_is_wrapped() {
    equals "$(garth wrap -- sh -c 'echo $$')" 2
}

doctor_finds_a_usable_machine() {
    # 1 is degraded.
    garth doctor || [ $? = 1 ]
}
