//! Services of one file know each other by name, and reach those that they name.

use garth_tests::{Host, needs, until};
use serde_json::Value;

const FILE: &str = "/srv/garth.toml";

/// A service that says its name on port 80.
fn page(name: &str, more: &str) -> String {
    format!(
        "[service.{name}]
        command = [\"busybox\", \"httpd\", \"-f\", \"-p\", \"80\", \"-h\", \"/srv/{name}\"]
        health = {{ tcp = 80, interval = \"100ms\" }}
        {more}
        "
    )
}

fn write(host: &Host, services: &[(&str, &str)]) {
    for (name, _) in services {
        host.write(&format!("/srv/{name}/index.html"), name);
    }
    let file: Vec<String> = services.iter().map(|(name, more)| page(name, more)).collect();
    host.write(FILE, &file.concat());
}

fn up(host: &Host, names: &str) -> String {
    host.garth(&format!("up -f {FILE} {names}")).run().ok()
}

/// What one gets from port 80 of another.
fn get(host: &Host, from: &str, to: &str) -> String {
    let curl = format!("curl -s -m 1 http://{to}/index.html");
    host.garth(&format!("exec {from}")).arg("sh").arg("-c").arg(&curl).run().stdout
}

fn address(host: &Host, from: &str, of: &str) -> String {
    let found = host.garth(&format!("exec {from} getent hosts {of}")).run().ok();
    found.split_whitespace().next().unwrap_or_default().to_owned()
}

fn pid(host: &Host, name: &str) -> Option<u64> {
    let all: Vec<Value> = serde_json::from_str(&host.garth("ps --json").run().ok()).ok()?;
    all.into_iter().find(|one| one["name"] == name)?["pid"].as_u64()
}

#[test]
fn services_reach_those_that_they_name_and_nobody_else() {
    needs!(root, netns, "busybox", "curl", "nft");
    let host = Host::with_services();
    write(
        &host,
        &[
            ("db", ""),
            ("web", "after = \"db\"\npublish = \"8080:80\""),
            ("admin", "reaches = [\"db\", \"web\"]"),
            ("alone", "network = \"private\""),
        ],
    );
    up(&host, "");
    for (from, to, may) in [
        ("web", "db", true),
        ("admin", "db", true),
        ("admin", "web", true),
        ("db", "db", true),
        ("db", "web", false),
        ("web", "admin", false),
        ("alone", "db", false),
        ("db", "alone", false),
    ] {
        assert_eq!(get(&host, from, to), if may { to } else { "" }, "{from} -> {to}");
    }
    // Nobody, that is, but the host, and another's port that is published is as before.
    assert_eq!(host.get("http://127.0.0.1:8080/index.html"), "web");
    assert_eq!(host.get(&format!("http://{}/index.html", address(&host, "web", "db"))), "db");
    // Another sandbox does not by guessing the address.
    let guess = format!("curl -s -m 1 http://{}/index.html", address(&host, "web", "db"));
    let mut other = host.garth("wrap --network private --").arg("sh").arg("-c").arg(&guess).run();
    assert_eq!(std::mem::take(&mut other.stdout), "");
    for name in ["db", "web", "admin", "alone"] {
        host.garth(&format!("check {name}")).run().ok();
    }
    host.garth(&format!("down -f {FILE}")).run().ok();
    host.assert_nothing_left();
}

#[test]
fn a_name_has_its_address_before_its_service_is_started_and_after_its_end() {
    needs!(root, netns, "busybox", "curl");
    let host = Host::with_services();
    let services = [("db", "restart = \"always\""), ("web", "after = \"db\"")];
    write(&host, &services);
    up(&host, "db");
    let web = address(&host, "db", "web");
    up(&host, "");
    assert_eq!(address(&host, "db", "web"), web);
    let db = address(&host, "web", "db");
    let before = pid(&host, "db");
    host.garth("kill db KILL").run().ok();
    until("db is there again", || (get(&host, "web", "db") == "db").then_some(()));
    assert_ne!(pid(&host, "db"), before);
    assert_eq!(address(&host, "db", "db"), db);
    // Another sandbox of that name does not take the address, however long the service is down.
    host.garth("down db").run().ok();
    let other = host.garth("wrap --name db --network private -- ip -4 addr show eth0").run().ok();
    assert!(other.contains("inet ") && !other.contains(&db), "{other}");
    let web = pid(&host, "web");
    up(&host, "");
    assert_eq!(get(&host, "web", "db"), "db");
    // One that is added is known to those that run, which are not touched for that.
    write(&host, &[services[0], services[1], ("new", "reaches = \"web\"")]);
    let text = up(&host, "");
    assert_eq!(text.matches("is up already").count(), 2, "{text}");
    assert_eq!(get(&host, "new", "web"), "web");
    assert_ne!(address(&host, "db", "new"), "");
    assert_eq!(pid(&host, "web"), web);
    host.garth(&format!("down -f {FILE}")).run().ok();
    host.assert_nothing_left();
}

#[test]
fn what_a_service_may_reach_is_changed_with_the_file() {
    needs!(root, netns, "busybox", "curl");
    let host = Host::with_services();
    let file = |reaches: &str| write(&host, &[("db", "network = \"internal\""), ("web", reaches)]);
    file("network = \"internal\"");
    up(&host, "");
    let db = pid(&host, "db");
    assert_eq!(get(&host, "web", "db"), "");
    file("network = \"internal\"\nreaches = \"db\"");
    let text = up(&host, "");
    assert!(text.contains("web  restarting: reaches changed"), "{text}");
    assert_eq!(get(&host, "web", "db"), "db");
    file("network = \"internal\"");
    up(&host, "");
    assert_eq!(get(&host, "web", "db"), "");
    assert_eq!(pid(&host, "db"), db);
    host.garth(&format!("down -f {FILE}")).run().ok();
    host.assert_nothing_left();
}

#[test]
fn a_lost_table_and_a_reboot_give_the_names_back() {
    needs!(root, netns, "busybox", "curl", "nft");
    let host = Host::with_services();
    write(&host, &[("db", ""), ("web", "after = \"db\"")]);
    up(&host, "");
    host.sh("kill -KILL $(pgrep -f ^garth-) $(pgrep busybox); sleep 0.3; rm -rf /run/garth; nft delete table inet garth
        for one in /var/lib/garth/services/*/process; do
            set -- $(readlink $one); ln -sfn \"$1 $2 00000000-0000-0000-0000-000000000000 $4\" $one
        done")
        .run()
        .ok();
    host.garth("up --resume").run().ok();
    assert_eq!(get(&host, "web", "db"), "db");
    // A record is lost, and what is then removed of one is nothing of another's.
    host.sh("rm /run/garth/sandboxes/db/record.json; pkill -KILL -f '^garth-keeper.* db '; $GARTH kill db KILL; sleep 0.3")
        .run();
    host.garth(&format!("up -f {FILE}")).run().ok();
    assert_eq!(get(&host, "web", "db"), "db");
    // The table is gone with all that held it, and the sandboxes run on.
    host.sh("pkill -KILL -f '^garth-(holder|keeper)'; sleep 0.2; nft flush ruleset").run().ok();
    assert_eq!(get(&host, "db", "web"), "web", "the test takes nothing away");
    host.garth("gc").run().ok();
    until("the path is there again", || (get(&host, "web", "db") == "db").then_some(()));
    assert_eq!(get(&host, "db", "web"), "");
    host.garth("down --all").run().ok();
    host.collect("at the end");
}

#[test]
fn what_has_no_way_out_answers_and_is_told_at_once_that_it_may_not_ask() {
    needs!(root, netns, "busybox", "curl");
    let host = Host::with_neighbour();
    host.write("/srv/index.html", "inside");
    let words = "wrap -d --network internal -p 0.0.0.0:8080:80 -p [::]:8080:80 --name in";
    host.garth(&format!("{words} -- busybox httpd -f -p 80 -h /srv")).run().ok();
    let page = || host.sh("curl -sf -m 1 http://127.0.0.1:8080/index.html").run().stdout;
    until("the page is there", || (page() == "inside").then_some(()));
    assert_eq!(host.get_from_neighbour("http://192.0.2.1:8080/index.html"), "inside");
    assert_eq!(host.get_from_neighbour("http://[2001:db8::1]:8080/index.html"), "inside");
    let _page = host.neighbour("busybox httpd -p 81 -h /srv").run().ok();
    for server in ["192.0.2.2:81", "[2001:db8::2]:81"] {
        let ask = format!("curl -sS -m 5 http://{server}/index.html");
        let open = host.garth("wrap --network private --").arg("sh").arg("-c").arg(&ask).run();
        assert_eq!(open.stdout, "inside", "{open}");
        let shut = host.garth("wrap --network internal --").arg("sh").arg("-c").arg(&ask).run();
        // 7: failed to connect; 28 would be a timeout.
        assert_eq!((shut.code, &*shut.stdout), (7, ""), "{shut}");
    }
    host.garth("kill in").run().ok();
}

#[test]
fn what_cannot_be_reached_is_said_and_nothing_is_started() {
    needs!(root, netns, "setpriv", userns);
    let host = Host::with_services();
    for (services, said) in [
        (
            &[("db", ""), ("web", "reaches = \"dv\"")][..],
            "service web: reaches: no service \"dv\" in the file; did you mean db?",
        ),
        (
            &[("db", "network = \"host\""), ("web", "reaches = \"db\"")],
            "reaches: db has no address of its own; give it network = \"internal\" or \"private\"",
        ),
        (
            &[("db", ""), ("web", "reaches = \"db\"\nnetwork = \"none\"")],
            "reaches: it has no address of its own",
        ),
    ] {
        write(&host, services);
        host.garth(&format!("up -f {FILE}")).run().refused(125, said);
    }
    // An order may be asked for of any.
    write(&host, &[("db", "network = \"host\""), ("web", "after = \"db\"")]);
    host.garth(&format!("explain up -f {FILE}")).run().ok();
    let user = |services: &[(&str, &str)]| {
        write(&host, services);
        host.sh(&format!(
            "chmod -R a+rX /srv; mkdir -p -m 700 /srv/home; chown 4321:4321 /srv/home
            HOME=/srv/home XDG_RUNTIME_DIR=/srv/home exec setpriv --reuid 4321 --regid 4321 \
                --clear-groups $GARTH explain up -f {FILE}"
        ))
        .run()
    };
    user(&[("db", ""), ("web", "reaches = \"db\"")]).refused(125, "reaches = \"db\": needs root");
    let ordered = user(&[("db", ""), ("web", "after = \"db\"")]);
    assert!(
        ordered.stderr.contains("does not reach db by its name, which needs root"),
        "{ordered}"
    );
    host.assert_nothing_left();
}
