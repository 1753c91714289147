//! A session keyring of its own, which no other container can plant for it.

use garth_tests::Bundle;

use crate::with_intruder;

#[test]
fn a_keyring_that_another_container_has_laid_is_not_joined() {
    bundle!(host, bundle);
    let mut other = Bundle::named(&host, &format!("keys{}", std::process::id()));
    with_intruder(&bundle);
    with_intruder(&other);
    bundle.script(&format!("exec intruder lay-keyring _ses.{}", other.id)).detach().ok();
    let laid = garth_tests::until("a keyring is laid", || {
        Some(bundle.output()).filter(|text| !text.is_empty())
    });
    let own = other.script("intruder session-keyring").run().ok();
    assert_ne!(own, laid);
    other.sleeping();
    let joined = other.call(&format!("exec {} intruder session-keyring", other.id)).run().ok();
    assert_ne!(joined, laid);
    bundle.delete_force();
}

#[test]
fn the_callers_keyring_stays_outside() {
    bundle!(host, bundle);
    with_intruder(&bundle);
    let program = bundle.rootfs("/bin/intruder");
    let outside = host.sh(&format!("exec {program} session-keyring")).run().ok();
    let inside = bundle.script("intruder session-keyring").run().ok();
    assert!(inside.parse::<i64>().is_ok() && outside.parse::<i64>().is_ok(), "{inside} {outside}");
    assert_ne!(inside, outside);
    bundle.sleeping();
    let call = bundle.call(&format!("exec {} intruder session-keyring", bundle.id));
    assert_ne!(call.run().ok(), outside);
}
