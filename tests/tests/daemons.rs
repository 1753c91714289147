//! Real, unmodified daemons in a sandbox: they serve, and only the clients they should.

use garth_tests::{Yard, needs, until};

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

fn yard_with_page() -> Yard {
    let yard = Yard::with_neighbour();
    yard.write("/srv/www/hello", "hello");
    yard
}

#[test]
fn nginx_serves_with_workers_as_www_data() {
    needs!(root, netns, "nginx", "curl");
    let yard = Yard::new();
    yard.write("/srv/nginx.conf", NGINX);
    let nginx = yard.garth("wrap -p 8080:80 -- nginx -c /srv/nginx.conf").start();
    assert_eq!(yard.get("http://127.0.0.1:8080/"), "hello");
    assert_eq!(yard.get("http://[::1]:8080/"), "hello");
    let users = yard.sh("ps -C nginx -o user=").run().ok();
    assert_eq!(users.lines().filter(|user| *user == "www-data").count(), 2, "{users}");
    nginx.signal("QUIT");
    assert_eq!(nginx.wait().code, 0);
    yard.assert_nothing_left();
}

#[test]
fn nginx_serves_port_80_as_www_data_without_any_privilege() {
    needs!(root, netns, "nginx", "curl");
    let yard = Yard::new();
    yard.write("/srv/nginx.conf", NGINX);
    let nginx = yard.garth("wrap -p 8080:80 -u www-data -- nginx -c /srv/nginx.conf").start();
    assert_eq!(yard.get("http://127.0.0.1:8080/"), "hello");
    assert_eq!(yard.get("http://[::1]:8080/"), "hello");
    nginx.signal("TERM");
    assert_eq!(nginx.wait().code, 0);
    yard.assert_nothing_left();
}

#[test]
fn redis_serves() {
    needs!(root, netns, "redis-server", "redis-cli");
    let yard = Yard::new();
    let redis = yard
        .garth("wrap -p 6379:6379 -u nobody -w /tmp -- redis-server --protected-mode no --save")
        .arg("")
        .arg("--bind")
        .arg("* -::*")
        .start();
    for host in ["127.0.0.1", "::1"] {
        until("redis answers", || {
            let ping = yard.sh(&format!("redis-cli -h {host} ping")).run();
            (ping.stdout == "PONG").then_some(())
        });
    }
    redis.signal("TERM");
    assert_eq!(redis.wait().code, 0);
    yard.assert_nothing_left();
}

#[test]
fn sshd_lets_a_user_in() {
    needs!(root, netns, "sshd", "ssh", "ssh-keygen");
    let yard = Yard::new();
    yard.sh(
        "cd /srv && ssh-keygen -qN '' -t ed25519 -f host && ssh-keygen -qN '' -t ed25519 -f user
        cp user.pub authorized",
    )
    .run()
    .ok();
    // The directory of its unprivileged part must be in /run, which is new and empty.
    let script = "mkdir /run/sshd && exec /usr/sbin/sshd -D -e -f /dev/null -h /srv/host \
        -oAuthorizedKeysFile=/srv/authorized -oStrictModes=no -oUsePAM=no -oPidFile=none";
    let _sshd = yard.garth("wrap -p 2222:22").script(script).start();
    for host in ["127.0.0.1", "::1"] {
        let name = until("sshd lets us in", || {
            let ssh = format!(
                "ssh -p 2222 -i /srv/user -oBatchMode=yes -oStrictHostKeyChecking=no \
                 -oUserKnownHostsFile=/dev/null -oConnectTimeout=5 root@{host} 'echo $SSH_CONNECTION'"
            );
            let ran = yard.sh(&ssh).run();
            (ran.code == 0).then_some(ran.stdout)
        });
        assert!(name.ends_with(" 22"), "{name}");
    }
}

#[test]
fn a_python_server_serves_as_nobody() {
    needs!(root, netns, "/usr/bin/python3", "curl");
    let yard = yard_with_page();
    let _server = yard
        .garth("wrap -p 8000:8000 -u nobody -- /usr/bin/python3 -m http.server -b :: -d /srv/www")
        .start();
    assert_eq!(yard.get("http://127.0.0.1:8000/hello"), "hello");
    assert_eq!(yard.get("http://[::1]:8000/hello"), "hello");
}

#[test]
fn a_shell_script_serves() {
    needs!(root, netns, "busybox");
    let yard = Yard::new();
    let _script = yard
        .garth("wrap -p 9000:9000")
        .script("while :; do echo from a script | busybox nc -l -p 9000; done")
        .start();
    until("the script answers", || {
        let ran = yard.sh("busybox nc -w 3 127.0.0.1 9000 </dev/null").run();
        (ran.stdout == "from a script").then_some(())
    });
}

#[test]
fn a_static_program_serves() {
    needs!(root, netns, "busybox", "curl");
    let yard = yard_with_page();
    let _busybox = yard.garth(&format!("wrap -p 8080:80 -u nobody -- {HTTPD}")).start();
    assert_eq!(yard.get("http://127.0.0.1:8080/hello"), "hello");
    assert_eq!(yard.get("http://[::1]:8080/hello"), "hello");
}

#[test]
fn a_port_published_without_an_address_is_closed_to_others() {
    needs!(root, netns, "busybox", "curl");
    let yard = yard_with_page();
    let _server = yard.garth(&format!("wrap -p 8080:80 -- {HTTPD}")).start();
    yard.get("http://127.0.0.1:8080/hello");
    assert!(yard.is_closed_to_neighbour("http://192.0.2.1:8080/hello"));
    assert!(yard.is_closed_to_neighbour("http://[2001:db8::1]:8080/hello"));
}

#[test]
fn a_port_published_on_all_addresses_is_reached_by_others_who_keep_their_address() {
    needs!(root, netns, "/usr/bin/python3", "curl");
    let yard = yard_with_page();
    let server = yard
        .garth("wrap -p 0.0.0.0:8000:8000 -p [::]:8000:8000 --")
        .arg("/usr/bin/python3")
        .arg("-um")
        .arg("http.server")
        .arg("--bind=::")
        .arg("--directory=/srv/www")
        .start();
    assert_eq!(yard.get_from_neighbour("http://192.0.2.1:8000/hello"), "hello");
    server.error_line("192.0.2.2 ");
    assert_eq!(yard.get_from_neighbour("http://[2001:db8::1]:8000/hello"), "hello");
    server.error_line("2001:db8::2 ");
}

#[test]
fn a_udp_port_is_published() {
    needs!(root, netns, "/usr/bin/python3", "bash");
    let yard = Yard::new();
    let python = "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.bind((\"\", 53)); \
        print(s.recv(99).decode())";
    let sandbox = yard
        .garth("wrap -p 5353:53/udp")
        .script(&format!("exec /usr/bin/python3 -c '{python}'"))
        .start();
    // A datagram may arrive before the server is ready: send until one gets through.
    let send = "while :; do echo hello >/dev/udp/127.0.0.1/5353; sleep 0.1; done 2>/dev/null";
    let _sender = yard.sh(&format!("exec bash -c '{send}'")).start();
    assert_eq!(sandbox.line(), "hello");
}

#[test]
fn a_sandbox_reaches_others_from_the_hosts_address() {
    needs!(root, netns, "/usr/bin/python3", "curl");
    let yard = yard_with_page();
    let server = yard
        .neighbour("exec /usr/bin/python3 -um http.server --bind :: --directory /srv/www 7000")
        .start();
    yard.get("http://192.0.2.2:7000/");
    for (url, from) in [("192.0.2.2", "192.0.2.1 "), ("[2001:db8::2]", "2001:db8::1 ")] {
        let curl = format!("curl -sgf --max-time 9 http://{url}:7000/hello");
        assert_eq!(yard.garth("wrap --network private").script(&curl).run().ok(), "hello");
        assert!(server.error_line("GET /hello").contains(from));
    }
    server.signal("KILL");
    yard.assert_nothing_left();
}

#[test]
fn a_sandbox_does_not_reach_another() {
    needs!(root, netns, "busybox", "curl");
    let yard = yard_with_page();
    let addresses = "ip -o addr show scope global | awk '{ print $4 }' | cut -d/ -f1";
    let first = yard
        .garth("wrap --name first --network private")
        .script(&format!("echo $({addresses}); exec {HTTPD}"))
        .start();
    let addresses = first.line();
    assert!(addresses.split(' ').count() >= 2, "{addresses}");
    for address in addresses.split(' ') {
        let url = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        let curl = format!("curl -sgf --max-time 3 http://{url}/hello");
        until("the server serves itself", || {
            (yard.garth(&format!("exec first -- {curl}")).run().stdout == "hello").then_some(())
        });
        let second = yard.garth("wrap --network private").script(&curl).run();
        assert_ne!(second.code, 0, "{second}");
    }
}

#[test]
fn a_sandbox_does_not_reach_a_service_on_the_hosts_loopback() {
    needs!(root, netns, "busybox", "curl");
    let yard = yard_with_page();
    let _server = yard.sh(&format!("exec {HTTPD}")).start();
    yard.get("http://127.0.0.1/hello");
    for host in ["127.0.0.1", "192.0.2.1"] {
        let curl = format!("curl -sf --max-time 3 http://{host}/hello");
        assert_ne!(yard.garth("wrap --network private").script(&curl).run().code, 0, "{host}");
    }
}
