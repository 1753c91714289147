//! Real, unmodified daemons in a sandbox: they serve, and only the clients they should.

use garth_tests::{Host, needs, until};

const NGINX: &str = "
user www-data; worker_processes 2; daemon off; pid /tmp/nginx.pid; error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fastcgi;
    uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
    server { listen 80; listen [::]:80; return 200 hello; }
}";

/// A web server on port 80 without configuration, which serves /srv/www/hello.
const HTTPD: &str = "busybox httpd -f -p 80 -h /srv/www";

fn host_with_page() -> Host {
    let host = Host::with_neighbour();
    host.write("/srv/www/hello", "hello");
    host
}

#[test]
fn nginx_serves_with_workers_as_www_data() {
    needs!(root, netns, "nginx", "curl");
    let host = Host::new();
    host.write("/srv/nginx.conf", NGINX);
    let nginx = host.garth("wrap -p 8080:80 -- nginx -c /srv/nginx.conf").start();
    assert_eq!(host.get("http://127.0.0.1:8080/"), "hello");
    assert_eq!(host.get("http://[::1]:8080/"), "hello");
    let users = host.sh("ps -C nginx -o user=").run().ok();
    assert_eq!(users.lines().filter(|user| *user == "www-data").count(), 2, "{users}");
    nginx.signal("QUIT");
    assert_eq!(nginx.wait().code, 0);
    host.assert_nothing_left();
}

#[test]
fn nginx_serves_port_80_as_www_data_without_any_privilege() {
    needs!(root, netns, "nginx", "curl");
    let host = Host::new();
    host.write("/srv/nginx.conf", NGINX);
    let nginx = host.garth("wrap -p 8080:80 -u www-data -- nginx -c /srv/nginx.conf").start();
    assert_eq!(host.get("http://127.0.0.1:8080/"), "hello");
    assert_eq!(host.get("http://[::1]:8080/"), "hello");
    nginx.signal("TERM");
    assert_eq!(nginx.wait().code, 0);
    host.assert_nothing_left();
}

#[test]
fn redis_serves() {
    needs!(root, netns, "redis-server", "redis-cli");
    let host = Host::new();
    let redis = host
        .garth("wrap -p 6379:6379 -u nobody -w /tmp -- redis-server --protected-mode no --save")
        .arg("")
        .arg("--bind")
        .arg("* -::*")
        .start();
    for address in ["127.0.0.1", "::1"] {
        until("redis answers", || {
            let ping = host.sh(&format!("redis-cli -h {address} ping")).run();
            (ping.stdout == "PONG").then_some(())
        });
    }
    redis.signal("TERM");
    assert_eq!(redis.wait().code, 0);
    host.assert_nothing_left();
}

#[test]
fn sshd_lets_a_user_in() {
    needs!(root, netns, "sshd", "ssh", "ssh-keygen");
    let host = Host::new();
    host.sh(
        "cd /srv && ssh-keygen -qN '' -t ed25519 -f host && ssh-keygen -qN '' -t ed25519 -f user
        cp user.pub authorized",
    )
    .run()
    .ok();
    // The directory of its unprivileged part must be in /run, which is new and empty.
    let script = "mkdir /run/sshd && exec /usr/sbin/sshd -D -e -f /dev/null -h /srv/host \
        -oAuthorizedKeysFile=/srv/authorized -oStrictModes=no -oUsePAM=no -oPidFile=none";
    let _sshd = host.garth("wrap -p 2222:22").script(script).start();
    for address in ["127.0.0.1", "::1"] {
        let name = until("sshd lets us in", || {
            let ssh = format!(
                "ssh -p 2222 -i /srv/user -oBatchMode=yes -oStrictHostKeyChecking=no \
                 -oUserKnownHostsFile=/dev/null -oConnectTimeout=5 root@{address} 'echo $SSH_CONNECTION'"
            );
            let ran = host.sh(&ssh).run();
            (ran.code == 0).then_some(ran.stdout)
        });
        assert!(name.ends_with(" 22"), "{name}");
    }
}

#[test]
fn a_python_server_serves_as_nobody() {
    needs!(root, netns, "/usr/bin/python3", "curl");
    let host = host_with_page();
    let _server = host
        .garth("wrap -p 8000:8000 -u nobody -- /usr/bin/python3 -m http.server -b :: -d /srv/www")
        .start();
    assert_eq!(host.get("http://127.0.0.1:8000/hello"), "hello");
    assert_eq!(host.get("http://[::1]:8000/hello"), "hello");
}

#[test]
fn a_shell_script_serves() {
    needs!(root, netns, "busybox");
    let host = Host::new();
    let _script = host
        .garth("wrap -p 9000:9000")
        .script("while :; do echo from a script | busybox nc -l -p 9000; done")
        .start();
    until("the script answers", || {
        let ran = host.sh("busybox nc -w 3 127.0.0.1 9000 </dev/null").run();
        (ran.stdout == "from a script").then_some(())
    });
}

#[test]
fn a_static_program_serves() {
    needs!(root, netns, "busybox", "curl");
    let host = host_with_page();
    let _busybox = host.garth(&format!("wrap -p 8080:80 -u nobody -- {HTTPD}")).start();
    assert_eq!(host.get("http://127.0.0.1:8080/hello"), "hello");
    assert_eq!(host.get("http://[::1]:8080/hello"), "hello");
}

#[test]
fn a_port_published_without_an_address_is_closed_to_others() {
    needs!(root, netns, "busybox", "curl");
    let host = host_with_page();
    let _server = host.garth(&format!("wrap -p 8080:80 -- {HTTPD}")).start();
    host.get("http://127.0.0.1:8080/hello");
    assert!(host.is_closed_to_neighbour("http://192.0.2.1:8080/hello"));
    assert!(host.is_closed_to_neighbour("http://[2001:db8::1]:8080/hello"));
}

#[test]
fn a_port_published_on_all_addresses_is_reached_by_others_who_keep_their_address() {
    needs!(root, netns, "/usr/bin/python3", "curl");
    let host = host_with_page();
    let server = host
        .garth("wrap -p 0.0.0.0:8000:8000 -p [::]:8000:8000 --")
        .arg("/usr/bin/python3")
        .arg("-um")
        .arg("http.server")
        .arg("--bind=::")
        .arg("--directory=/srv/www")
        .start();
    assert_eq!(host.get_from_neighbour("http://192.0.2.1:8000/hello"), "hello");
    server.error_line("192.0.2.2 ");
    assert_eq!(host.get_from_neighbour("http://[2001:db8::1]:8000/hello"), "hello");
    server.error_line("2001:db8::2 ");
}

#[test]
fn a_udp_port_is_published() {
    needs!(root, netns, "/usr/bin/python3", "bash");
    let host = Host::new();
    let python = "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.bind((\"\", 53)); \
        print(s.recv(99).decode())";
    let sandbox = host
        .garth("wrap -p 5353:53/udp")
        .script(&format!("exec /usr/bin/python3 -c '{python}'"))
        .start();
    // A datagram may arrive before the server is ready: send until one gets through.
    let send = "while :; do echo hello >/dev/udp/127.0.0.1/5353; sleep 0.1; done 2>/dev/null";
    let _sender = host.sh(&format!("exec bash -c '{send}'")).start();
    assert_eq!(sandbox.line(), "hello");
}

#[test]
fn a_sandbox_reaches_others_from_the_hosts_address() {
    needs!(root, netns, "/usr/bin/python3", "curl");
    let host = host_with_page();
    let server = host
        .neighbour("exec /usr/bin/python3 -um http.server --bind :: --directory /srv/www 7000")
        .start();
    host.get("http://192.0.2.2:7000/");
    for (url, from) in [("192.0.2.2", "192.0.2.1 "), ("[2001:db8::2]", "2001:db8::1 ")] {
        let curl = format!("curl -sgf --max-time 9 http://{url}:7000/hello");
        assert_eq!(host.garth("wrap --network private").script(&curl).run().ok(), "hello");
        assert!(server.error_line("GET /hello").contains(from));
    }
    server.signal("KILL");
    host.assert_nothing_left();
}

#[test]
fn a_sandbox_does_not_reach_another() {
    needs!(root, netns, "busybox", "curl");
    let host = host_with_page();
    let addresses = "ip -o addr show scope global | awk '{ print $4 }' | cut -d/ -f1";
    let first = host
        .garth("wrap --name first --network private")
        .script(&format!("echo $({addresses}); exec {HTTPD}"))
        .start();
    let addresses = first.line();
    assert!(addresses.split(' ').count() >= 2, "{addresses}");
    for address in addresses.split(' ') {
        let url = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        let curl = format!("curl -sgf --max-time 3 http://{url}/hello");
        until("the server serves itself", || {
            (host.garth(&format!("exec first -- {curl}")).run().stdout == "hello").then_some(())
        });
        let second = host.garth("wrap --network private").script(&curl).run();
        assert_ne!(second.code, 0, "{second}");
    }
}

#[test]
fn a_sandbox_does_not_reach_a_service_on_the_hosts_loopback() {
    needs!(root, netns, "busybox", "curl");
    let host = host_with_page();
    let _server = host.sh(&format!("exec {HTTPD}")).start();
    host.get("http://127.0.0.1/hello");
    for address in ["127.0.0.1", "192.0.2.1"] {
        let curl = format!("curl -sf --max-time 3 http://{address}/hello");
        assert_ne!(host.garth("wrap --network private").script(&curl).run().code, 0, "{address}");
    }
}
