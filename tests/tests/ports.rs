//! Published ports: where they answer, and how many there may be.

use garth_tests::{Host, needs};

#[test]
fn a_port_of_both_loopback_addresses_answers_on_both() {
    needs!(root, netns, "busybox", "curl");
    let host = Host::new();
    host.write("/srv/www/hello", "hello");
    for ports in ["-p 127.0.0.1:8080:80 -p [::1]:8080:80", "-p [::1]:8080:80", "-p 8080:80"] {
        let words = format!("wrap -d --name web {ports} -- busybox httpd -f -p 80 -h /srv/www");
        host.garth(&words).run().ok();
        assert_eq!(host.get("http://[::1]:8080/hello"), "hello", "{ports}");
        if ports.contains("127") {
            assert_eq!(host.get("http://127.0.0.1:8080/hello"), "hello", "{ports}");
        }
        host.garth("delete --force web").run().ok();
    }
    host.assert_nothing_left();
}

#[test]
fn ports_beyond_the_limit_of_descriptors_are_published_and_the_command_has_the_limit_of_before() {
    needs!(root, netns, "busybox", "curl");
    let host = Host::new();
    host.write("/srv/www/hello", "hello");
    let script = "ulimit -Hn 20000 && ulimit -Sn 256 || exit 99
        $GARTH wrap -d --name web -p 20000-22999:20000-22999 -p 8080:80 -- \
            sh -c 'ulimit -Sn >/tmp/soft; ulimit -Hn >/tmp/hard; exec busybox httpd -f -p 80 -h /srv/www' &&
        $GARTH exec web -- sh -c 'until [ -s /tmp/hard ]; do sleep 0.1; done; cat /tmp/soft /tmp/hard; ulimit -Sn'";
    assert_eq!(host.sh(script).run().ok(), "web\n256\n20000\n256");
    assert_eq!(host.get("http://127.0.0.1:8080/hello"), "hello");
    // They are taken, then free again.
    host.garth("wrap -p 22999:80 -- true").run().refused(125, "22999");
    host.garth("delete --force web").run().ok();
    host.garth("wrap -p 22999:80 -- true").run().ok();
    let few = host.sh("ulimit -n 256; exec $GARTH wrap -p 20000-20999:20000-20999 -- true").run();
    few.refused(125, "ulimit -Hn");
    host.assert_nothing_left();
}
