# as: root
# As ExecStart of units that systemd hardens, where bwrap starts too.

restrict_suid_sgid() { starts_under RestrictSUIDSGID=yes; }
dynamic_user() { starts_under DynamicUser=yes; }
private_devices() { starts_under PrivateDevices=yes; }
a_bounding_set_without_mknod() { starts_under CapabilityBoundingSet=~CAP_MKNOD; }
protect_kernel_tunables() { starts_under ProtectKernelTunables=yes; }
protect_hostname() { starts_under ProtectHostname=yes; }
private_users() { starts_under PrivateUsers=yes; }
protect_system_strict() { starts_under ProtectSystem=strict; }
protect_control_groups() { starts_under ProtectControlGroups=yes; }
no_new_privileges() { starts_under NoNewPrivileges=yes; }
private_tmp_and_home() { starts_under PrivateTmp=yes ProtectHome=yes; }

what_is_asked_for_and_cannot_be_had_is_said() {
    output=$(unit ProtectControlGroups=yes -- garth wrap --memory 64m -- true) && fail "$output"
    contains "$output" garth:
    say "$output"
    output=$(unit ProtectSystem=strict -- garth wrap --name web --network private -- true) && fail "$output"
    contains "$output" garth:
    say "$output"
    # The documented way.
    unit ProtectSystem=strict RuntimeDirectory=garth-web RuntimeDirectoryMode=0700 \
        Environment=GARTH_ROOT=/run/garth-web -- garth wrap --name web --network private -- true
}
