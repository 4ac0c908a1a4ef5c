//! Tests on an isolated machine: an empty `/etc`, a loopback interface with all ports free, and nothing else.
//!
//! Such a test runs this executable again, for itself alone, in user, mount and network namespaces. If the system does
//! not allow creating them, the test says so and asserts nothing; its rules have unit tests that need no namespace.

use std::env;
use std::process::Command;

const INSIDE: &str = "PROXY_TEST_NAMESPACE";
const SETUP: &str = "ip link set lo up && mount -t tmpfs none /etc && exec \"$@\"";

/// Whether the test runs inside the namespaces. `test` is its name with its module; outside of them, it is run inside,
/// and this returns false.
pub(crate) fn has_own_machine(test: &str) -> bool {
    if env::var_os(INSIDE).is_some() {
        return true;
    }
    let probe = inside(&["true"]).output();
    if !probe.as_ref().is_ok_and(|probe| probe.status.success()) {
        println!("SKIPPED {test}: no namespaces here: {probe:?}");
        return false;
    }
    let executable = env::current_exe().expect("a process knows its executable");
    let run = inside(&[])
        .arg(executable)
        .args([test, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("what was probed can be run");
    let (stdout, stderr) = (
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr),
    );
    assert!(
        run.status.success() && stdout.contains(" 1 passed"),
        "{stdout}\n{stderr}"
    );
    false
}

fn inside(arguments: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["-Urmn", "sh", "-c", SETUP, "sh"])
        .args(arguments);
    command
}
