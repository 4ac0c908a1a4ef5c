//! Panicking wakers made by plugins.

use crate::support::{OK, Origin, Proxy};

#[test]
fn a_panic_in_a_waker_does_not_end_the_process() {
    for (plugin, panics_in, status) in [
        ("WakerPanics", "wake", 200),
        // The hook itself drops the last waker.
        ("WakerDropPanics", "drop", 500),
        ("WakerClonePanics", "clone", 200),
    ] {
        let origin = Origin::answering(OK);
        let asks = format!("WakerPanics.asks='http://{}/'", origin.authority());
        let mut command = Proxy::command().plugin("hostile", plugin);
        if plugin == "WakerPanics" {
            command = command.plugin_config(&asks);
        }
        let proxy = command.start();
        for _ in 0..3 {
            let answer = proxy.get(&origin, "/");
            assert_eq!(answer.status(), status, "{plugin}");
        }
        proxy.wait_for_line(&format!("a waker panicked in its {panics_in}: "));
    }
}
