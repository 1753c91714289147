#![allow(clippy::unwrap_used, reason = "a test")]

use super::*;

fn parse(text: &str) -> Result<ServiceFile> {
    let variable = |name: &str| (name == "PORT").then(|| "8080".to_owned());
    ServiceFile::parse(text, Path::new("garth.toml"), &variable)
}

fn refused(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn a_file_has_services_with_the_keys_of_the_flags() {
    let file = parse(
        r#"
        [service.db]
        command = ["postgres", "-D", "/data"]
        memory  = "512m"
        rw      = "/data"
        pids-limit = 100

        [service.web]
        command = ["nginx"]
        publish = ["${PORT}:80"]
        after   = ["db"]
        read-only = true
        "#,
    )
    .unwrap();
    let (db, web) = (&file.services["db"], &file.services["web"]);
    assert_eq!(db.settings.command, ["postgres", "-D", "/data"]);
    assert_eq!(
        (db.settings.memory.as_deref(), db.settings.pids_limit.as_deref()),
        (Some("512m"), Some("100"))
    );
    assert_eq!(db.settings.rw, ["/data"]);
    assert_eq!(web.settings.publish, ["8080:80"]);
    assert!(web.settings.read_only);
    assert_eq!(file.levels().unwrap(), [["db"], ["web"]]);
}

#[test]
fn mistakes_are_shown_where_they_are() {
    for (text, says) in [
        (
            "[service.web]\ncommand = [\"x\"]\nmemroy = 5\n",
            "garth.toml:3:1: memroy = 5: unknown key \"memroy\"; did you mean memory?",
        ),
        (
            "[service.web]\ncommand = [\"x\"]\nread-only = \"yes\"\n",
            "garth.toml:3:13: read-only = \"yes\": invalid type",
        ),
        (
            "[service.web]\nmemory = \"5m\"\n",
            "garth.toml:1:1: [service.web]: no command; write command =",
        ),
        ("[service.web\n", "garth.toml:1:"),
        ("[servce.web]\ncommand = \"x\"\n", "unknown key \"servce\"; did you mean service?"),
        ("service = 5\n", "garth.toml:1:11: service = 5: a table is expected, not integer"),
        ("[service.web]\ncommand = \"x\"\nname = \"y\"\n", "unknown key \"name\""),
        (
            "[service.\"a/b\"]\ncommand = \"x\"\n",
            "garth.toml:1:10: \"a/b\" is not a valid sandbox name",
        ),
        (
            "[service.web]\ncommand = \"${NONE}\"\n",
            "garth.toml:2:11: command = \"${NONE}\": variable NONE is not set",
        ),
        ("", "garth.toml: no services in it"),
        (
            "[service.web]\ncommand = \"x\"\nafter = 5\n",
            "garth.toml:3:9: after = 5: expected text or a list of text",
        ),
        (
            "[service.web]\ncommand = \"x\"\nrestart = \"never\"\n",
            "garth.toml:3:11: restart = \"never\": restart \"never\": not a policy",
        ),
        (
            "[service.web]\ncommand = \"x\"\nhealth = { tcp = 80, intervall = \"5s\" }\n",
            "garth.toml:3:",
        ),
        (
            "[service.web]\ncommand = \"x\"\nhealth = { tcp = 80, http = \":80\" }\n",
            "garth.toml:3:10: health: not one kind of check",
        ),
        (
            "[service.web]\ncommand = \"x\"\nafter = [\"wep\"]\n",
            "garth.toml: service web: after: no service \"wep\" in the file; did you mean web?",
        ),
    ] {
        let error = refused(text);
        assert!(
            error.starts_with(says) || error.contains(says),
            "{text}\n  says  {error}\n  wants {says}"
        );
    }
}

#[test]
fn services_that_wait_for_each_other_are_refused() {
    let file = |pairs: &[(&str, &str)]| -> String {
        let one = |(name, after): &(&str, &str)| {
            let after: Vec<&str> = after.split_whitespace().collect();
            format!("[service.{name}]\ncommand = \"x\"\nafter = {after:?}\n")
        };
        pairs.iter().map(one).collect()
    };
    let error = refused(&file(&[("a", "b"), ("b", "c"), ("c", "b"), ("d", "")]));
    assert_eq!(error, "garth.toml: services wait for each other: b after c after b");
    assert!(refused(&file(&[("a", "a")])).ends_with("a after a"));
    let levels = parse(&file(&[("a", "b c"), ("b", "d"), ("c", "d"), ("d", ""), ("e", "")]));
    assert_eq!(levels.unwrap().levels().unwrap(), [vec!["d", "e"], vec!["b", "c"], vec!["a"]]);
}

#[test]
fn a_service_extends_another() {
    let dir = std::env::temp_dir().join(format!("garth-extends-{}", std::process::id()));
    fs::create_dir_all(dir.join("base")).unwrap();
    let base = "[service.web]\nmemory = \"64m\"\nrw = \"data\"\nrestart = \"always\"\n\
                health = { tcp = 80 }\n[service.other]\ncommand = \"other\"\n";
    fs::write(dir.join("base/base.toml"), base).unwrap();
    let read = |text: &str| {
        fs::write(dir.join("garth.toml"), text).unwrap();
        ServiceFile::read(&dir.join("garth.toml"))
    };
    let file = read(
        "[service.web]\nextends = \"base/base.toml\"\ncommand = \"x\"\nmemory = \"32m\"\n\
         [service.app]\nextends = \"#web\"\nrestart = \"no\"\n\
         [service.last]\nextends = \"base/base.toml#other\"\n",
    )
    .unwrap();
    let web = &file.services["web"];
    assert_eq!(web.settings.memory.as_deref(), Some("32m"));
    assert_eq!(web.settings.rw, [dir.canonicalize().unwrap().join("base/data").into_os_string()]);
    assert_eq!(web.rules.restart.to_string(), "always");
    let app = &file.services["app"];
    assert_eq!(
        (app.rules.restart.to_string(), &app.settings.command),
        ("no".into(), &web.settings.command)
    );
    assert_eq!(app.rules.health, web.rules.health);
    assert_eq!(file.services["last"].settings.command, ["other"]);
    for (text, says) in [
        (
            "[service.a]\nextends = \"base/base.toml\"\n",
            "garth.toml:2:11: extends: no service \"a\" in",
        ),
        ("[service.wep]\nextends = \"base/base.toml\"\n", "did you mean web?"),
        ("[service.a]\nextends = \"none.toml\"\n", "none.toml: ENOENT"),
        (
            "[service.a]\nextends = 5\n",
            "garth.toml:2:11: extends = 5: text is expected, not integer",
        ),
        (
            "[service.a]\nextends = \"#b\"\n[service.b]\nextends = \"#a\"\n",
            "in a circle: a extends b extends a",
        ),
        (
            "[service.a]\nextends = \"base/base.toml#web\"\n",
            "garth.toml:1:1: [service.a]: no command",
        ),
        ("[service.a]\nextend = \"x\"\n", "did you mean extends?"),
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains(says), "{text}\n says  {error}\n wants {says}");
    }
    fs::remove_dir_all(&dir).unwrap();
}
